//! What another machine needs to join: the installer and the programs.

use std::path::Path as FilePath;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reeve_sdk::api::Problem;
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiError, Path};
use crate::AppState;

const INSTALLER: &str = include_str!("../../../installer/install.sh");
const INSTALL_LINE: &str = include_str!("../../../installer/one-line.txt");

/// Name of the list of checksums, as `sha256sum` writes it.
const SUMS: &str = "SHA256SUMS";

/// Programs listed at most.
const MAX_FILES: usize = 256;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(install)).routes(routes!(dist))
}

/// The installer
///
/// A POSIX shell script that knows this coordinator's address and CA pin.
#[utoipa::path(get, path = "/install.sh", tag = "downloads",
    responses((status = 200, body = String, content_type = "text/x-shellscript")))]
async fn install(State(state): State<AppState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/x-shellscript; charset=utf-8")], installer(&state))
}

fn installer(state: &AppState) -> String {
    let pin = state.ca.pin().map(|pin| pin.to_string()).unwrap_or_default();
    INSTALLER.replace("@URL@", state.url.as_str().trim_end_matches('/')).replace("@CA_PIN@", &pin)
}

/// The line that installs an agent on another machine; `TOKEN` stands for the join token. It holds
/// the checksum of the installer, so nothing is run that did not come from here.
#[must_use]
pub fn install_line(state: &AppState) -> String {
    let sum = crate::hex(&Sha256::digest(installer(state).as_bytes()));
    INSTALL_LINE
        .trim_end()
        .replace("@URL@", state.url.as_str().trim_end_matches('/'))
        .replace("@SHA256@", &sum)
}

/// A program, or `SHA256SUMS`
#[utoipa::path(get, path = "/dist/{name}", tag = "downloads",
    params(("name" = String, Path, description = "A file's name, or SHA256SUMS")),
    responses((status = 200, body = String, content_type = "application/octet-stream"),
        (status = 404, body = Problem)))]
async fn dist(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let missing = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "file_not_found",
            format!("there is no file '{name}' in the coordinator's 'dist' folder"),
        )
    };
    let Some(folder) = state.config.dist.clone() else {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "file_not_found",
            "this coordinator serves no programs: set 'dist' to a folder that holds them",
        ));
    };
    if !is_plain(&name) {
        return Err(missing());
    }
    let path = folder.join(&name);
    let is_file = tokio::fs::metadata(&path).await.is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        if name != SUMS {
            return Err(missing());
        }
        let sums = state.tasks.spawn_blocking("checksums", move || list_sums(&folder)).await;
        let sums = sums.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
        return Ok(([(header::CONTENT_TYPE, "text/plain")], sums).into_response());
    }
    let file = tokio::fs::File::open(&path).await.map_err(|error| missing().source(error))?;
    let length = file.metadata().await.map_err(ApiError::internal)?.len();
    let mut response =
        Body::from_stream(ReaderStream::with_capacity(file, 64 * 1024)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// A name of a file in the folder, and nothing that leads out of it.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
}

fn list_sums(folder: &FilePath) -> std::io::Result<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_plain(name))
        .take(MAX_FILES)
        .collect();
    names.sort();
    let mut sums = String::new();
    for name in names {
        let path = folder.join(&name);
        if !path.is_file() {
            continue;
        }
        let mut hasher = Sha256::new();
        let mut file = std::fs::File::open(&path)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = std::io::Read::read(&mut file, &mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        sums.push_str(&format!("{}  {name}\n", crate::hex(&hasher.finalize())));
    }
    Ok(sums)
}
