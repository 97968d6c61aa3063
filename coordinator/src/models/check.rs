//! What a provider's settings have to be before anything is sent anywhere. What concerns the wire is
//! checked by `reeve-models`; here is where its key comes from, and what its name means to us.

use http::StatusCode;
use reeve_sdk::api::ProviderSettings;

use crate::problem::ApiError;
use crate::selector;

/// # Errors
/// 422 that says what, why and what to do.
pub fn check(settings: &ProviderSettings) -> Result<(), ApiError> {
    let invalid = |detail: String| {
        Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_provider", detail))
    };
    if let Err(error) = reeve_models::check_settings(settings) {
        return invalid(error.message);
    }
    // It would stand in the way of `/api/models/roles/…`.
    if settings.name == "roles" {
        return invalid("'roles' cannot be a provider's name".to_owned());
    }
    if settings.vault_entry.is_some() && settings.key_env.is_some() {
        return invalid("the key is either in the vault or in the environment".to_owned());
    }
    if let Some(entry) = &settings.vault_entry
        && !selector::is_name(entry)
    {
        return invalid(format!("'{}' is no name of a vault entry", entry.escape_debug()));
    }
    for name in settings.key_env.iter().chain(settings.env_headers.values()) {
        if !is_variable(name) {
            return invalid(format!("'{}' is no name of a variable", name.escape_debug()));
        }
    }
    Ok(())
}

fn is_variable(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
