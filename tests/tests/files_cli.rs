//! `reeve files`, as people type it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use reeve_tests::Cluster;

/// `MACHINE:PATH`.
fn on(machine: &str, path: impl AsRef<Path>) -> OsString {
    let mut bytes = machine.as_bytes().to_vec();
    bytes.push(b':');
    bytes.extend_from_slice(path.as_ref().as_os_str().as_bytes());
    OsString::from_vec(bytes)
}

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

/// `reeve files …` with targets behind the words.
fn files<const N: usize>(line: [&str; N], targets: &[OsString]) -> Vec<OsString> {
    let mut all = words(["files"]);
    all.extend(words(line));
    all.extend_from_slice(targets);
    all
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("reeve-files-").tempdir().expect("a folder")
}

/// A folder with what people have in folders.
fn filled() -> tempfile::TempDir {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("app/log")).expect("folders");
    fs::write(at("app/app.conf"), "port = 80\n# old: port = 79\nname = a\n").expect("written");
    fs::write(at("app/log/today.log"), "fine\nERROR one\nfine\nfine\nERROR two\n")
        .expect("written");
    fs::write(at("app/log/.hidden.log"), "ERROR hidden\n").expect("written");
    fs::write(at("app/data.bin"), b"\0\x01ERROR\xff").expect("written");
    std::os::unix::fs::symlink("/etc", at("app/out")).expect("linked");
    nix::unistd::mkfifo(&at("app/pipe"), nix::sys::stat::Mode::S_IRUSR).expect("a fifo");
    folder
}

#[test]
fn find_lists_what_fits_and_follows_no_links() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = filled();
    let base = folder.path().display().to_string();
    let target = [on("web-1", folder.path())];

    let all = cluster.reeve(files(["find"], &target));
    all.expect_code(0).expect_stdout(&format!(
        "{base}\n{base}/app\n{base}/app/app.conf\n{base}/app/data.bin\n{base}/app/log\n\
         {base}/app/log/.hidden.log\n{base}/app/log/today.log\n{base}/app/out\n{base}/app/pipe\n"
    ));
    let named = cluster.reeve(files(["find", "-n", "*.log", "--no-hidden"], &target));
    named.expect_code(0).expect_stdout(&format!("{base}/app/log/today.log\n"));
    let below = cluster.reeve(files(["find", "-n", "app/*.conf", "-x", "log"], &target));
    below.expect_code(0).expect_stdout(&format!("{base}/app/app.conf\n"));
    let kinds = cluster.reeve(files(["find", "-k", "l", "-k", "p", "-d", "2"], &target));
    kinds.expect_code(0).expect_stdout(&format!("{base}/app/out\n{base}/app/pipe\n"));
    let sized = cluster.reeve(files(["find", "--larger", "10", "--smaller", "20"], &target));
    sized.expect_code(0).expect_stdout(&format!("{base}/app/log/.hidden.log\n"));
    cluster.reeve(files(["find", "--older", "1h"], &target)).expect_code(0).expect_stdout("");
    let few = cluster.reeve(files(["find", "--newer", "1h", "--limit", "1"], &target));
    few.expect_code(0).expect_stdout(&format!("{base}\n")).expect_says("more than the 1");
    cluster.reeve(files(["find", "--owner", "nobody-here"], &target)).expect_code(1);
    cluster
        .reeve(files(["find", "-n", "a["], &target))
        .expect_code(1)
        .expect_says("reeve: web-1: 'a[' is no glob");
    let json = cluster.reeve(files(["find", "-n", "app.conf", "-o", "json"], &target));
    let found: serde_json::Value = json.expect_code(0).json();
    assert_eq!((&found[0]["machine"], &found[0]["size"]), (&"web-1".into(), &36.into()), "{json}");
}

#[test]
fn ls_lists_as_ls_does() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _other = cluster.agent("web-2").start();
    let folder = filled();
    let app = folder.path().join("app");
    let base = app.display().to_string();
    let here = [on("web-1", &app)];
    let plain = cluster.reeve(files(["ls"], &here));
    plain.expect_code(0).expect_stdout("app.conf\ndata.bin\nlog\nout\npipe\n");
    let large =
        cluster.reeve(files(["ls", "--sort", "size", "-r"], &[on("web-1", app.join("log"))]));
    large.expect_code(0).expect_stdout("today.log\n");
    let all = cluster.reeve(files(["ls", "-a"], &[on("web-1", app.join("log"))]));
    all.expect_code(0).expect_stdout(".hidden.log\ntoday.log\n");
    let long = cluster.reeve(files(["ls", "-l", "--bytes"], &here));
    let text = long.expect_code(0).text();
    assert!(text.lines().any(|line| line.starts_with("-rw") && line.contains(" 36 ")), "{long}");
    assert!(
        text.lines().any(|line| line.starts_with("lrwx") && line.ends_with("out -> /etc")),
        "{long}"
    );
    assert!(text.lines().any(|line| line.starts_with("pr--------")), "{long}");
    let file = cluster.reeve(files(["ls"], &[on("web-1", app.join("app.conf"))]));
    file.expect_code(0).expect_stdout(&format!("{base}/app.conf\n"));
    let names = cluster.reeve(files(["ls", "-o", "name"], &[on("web-*", &app)]));
    names.expect_code(0).expect_says(&format!("web-2:{base}/data.bin\n"));
    let many = cluster.reeve(files(["ls"], &[on("web-1,web-2", &app)]));
    many.expect_code(0).expect_says(&format!("web-1:{base}:\napp.conf\n"));
    many.expect_says(&format!("\nweb-2:{base}:\napp.conf\n"));
    let json: serde_json::Value = cluster.reeve(files(["ls", "-o", "json"], &here)).json();
    assert_eq!(json[0]["path"], format!("{base}/app.conf"), "{json}");
    let missing = cluster.reeve(files(["ls"], &[on("web-1", "/no/such")]));
    missing.expect_code(1).expect_stdout("").expect_says("reeve: web-1: /no/such is not there");
}

#[test]
fn odd_names_are_found_and_drive_no_terminal() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let names: [&[u8]; 6] =
        [b"-rf", b"bad\xff\x80", b"quote'\"", b"two\nlines", b"\x1b[2Jclear", b"$(id) `id` *"];
    for name in names {
        fs::write(folder.path().join(OsStr::from_bytes(name)), "needle\n").expect("written");
    }
    let target = [on("web-1", folder.path())];
    let shown = cluster.reeve(files(["find", "-k", "f"], &target));
    shown.expect_code(0);
    assert_eq!(shown.text().lines().count(), 6, "{shown}");
    assert!(!shown.stdout.contains(&0x1b), "{shown}");
    shown.expect_says("/two\\nlines\n").expect_says("/-rf\n");
    let raw = cluster.reeve(files(["find", "-k", "f", "-0"], &target));
    let mut found: Vec<&[u8]> = raw.stdout.split(|byte| *byte == 0).collect();
    assert_eq!(found.pop(), Some(&b""[..]));
    assert_eq!(found.len(), 6);
    for name in names {
        assert!(found.iter().any(|path| path.ends_with(name)), "{name:?} in {raw}");
        // And each can be asked for by its name.
        let path = folder.path().join(OsStr::from_bytes(name));
        let stat = cluster.reeve(files(["stat", "-o", "jsonl"], &[on("web-1", path)]));
        assert_eq!(stat.expect_code(0).json::<serde_json::Value>()["size"], 7, "{stat}");
    }
    let hits = cluster.reeve(files(["grep", "needle"], &target));
    hits.expect_code(0);
    assert!(!hits.stdout.contains(&0x1b) && hits.text().lines().count() == 6, "{hits}");
    cluster
        .reeve(files(["grep", "--", "-rf"], &[on("web-1", folder.path().join("-rf"))]))
        .expect_code(1);
}

#[test]
fn grep_prints_and_exits_as_grep_does() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = filled();
    let base = folder.path().display().to_string();
    let target = [on("web-1", folder.path())];
    let log = format!("{base}/app/log/today.log");

    let lines = cluster.reeve(files(["grep", "ERROR (one|two)"], &target));
    lines.expect_code(0).expect_stdout(&format!("{log}:2:ERROR one\n{log}:5:ERROR two\n"));
    let word = cluster.reeve(files(["grep", "-i", "-w", "error", "-g", "*.log"], &target));
    assert_eq!(word.expect_code(0).text().lines().count(), 3, "{word}");
    let context = cluster.reeve(files(["grep", "-C1", "-F", "one"], &[on("web-1", &log)]));
    context
        .expect_code(0)
        .expect_stdout(&format!("{log}-1-fine\n{log}:2:ERROR one\n{log}-3-fine\n"));
    let breaks = cluster.reeve(files(["grep", "-B1", "ERROR"], &[on("web-1", &log)]));
    breaks.expect_code(0).expect_says("\n--\n");
    let invert =
        cluster.reeve(files(["grep", "--invert-match", "fine", "-c"], &[on("web-1", &log)]));
    invert.expect_code(0).expect_stdout(&format!("{log}:2\n"));
    let names = cluster.reeve(files(["grep", "-l", "ERROR", "-x", ".*"], &target));
    names.expect_code(0).expect_stdout(&format!("{base}/app/data.bin\n{log}\n"));
    let binary = cluster.reeve(files(["grep", "ERROR", "-g", "*.bin"], &target));
    binary.expect_code(0).expect_stdout(&format!("{base}/app/data.bin: binary file matches\n"));
    cluster
        .reeve(files(["grep", "ERROR", "-g", "*.bin", "--binary", "skip"], &target))
        .expect_code(1)
        .expect_stdout("");
    let first = cluster.reeve(files(["grep", "-m1", "ERROR"], &[on("web-1", &log)]));
    first.expect_code(0).expect_stdout(&format!("{log}:2:ERROR one\n"));
    let limit = cluster.reeve(files(["grep", "ERROR", "--limit", "2", "-g", "*.log"], &target));
    assert_eq!(limit.expect_code(0).text().lines().count(), 2, "{limit}");
    limit.expect_says("ended after 2");
    let coloured = cluster.reeve(files(["grep", "-F", "one", "--color", "always"], &target));
    coloured.expect_code(0).expect_says("ERROR \x1b[1;31mone\x1b[0m\n");

    cluster.reeve(files(["grep", "nowhere"], &target)).expect_code(1).expect_stdout("");
    cluster
        .reeve(files(["grep", "("], &target))
        .expect_code(2)
        .expect_says("'(' is no regular expression");
    cluster
        .reeve(files(["grep", "x"], &[on("web-1", "/no/such")]))
        .expect_code(2)
        .expect_says("reeve: web-1: /no/such is not there");
    cluster.reeve(files(["grep", "x"], &[on("web-9", "/etc")])).expect_code(255);
    cluster.reeve(files(["grep", "x"], &[on("", "/etc")])).expect_code(2);
    // What would mean something else to grep(1) does not go unnoticed.
    cluster.reeve(files(["grep", "-v", "x"], &target)).expect_code(2).expect_says("--invert-match");
    // Nobody writes to the fifo: whoever opened it would wait for ever.
    cluster
        .reeve(files(["grep", "x"], &[on("web-1", folder.path().join("app/pipe"))]))
        .expect_code(2)
        .expect_says("is a named pipe");

    let json = cluster.reeve(files(["grep", "two", "-o", "jsonl"], &target));
    let found: serde_json::Value = json.expect_code(0).json();
    assert_eq!(found["line"], 5, "{json}");
    assert_eq!(found["offset"], 25, "{json}");
    assert_eq!(found["spans"], serde_json::json!([[6, 9]]), "{json}");
}

#[test]
fn line_without_an_end_is_searched_in_little_memory() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let path = folder.path().join("endless");
    let mut content = vec![b'x'; 100 * 1024 * 1024];
    content[70_000_000..70_000_006].copy_from_slice(b"needle");
    content.extend_from_slice(b"\nsecond needle\n");
    fs::write(&path, &content).expect("written");
    let found = cluster.reeve(files(["grep", "needle", "-o", "json"], &[on("web-1", &path)]));
    let lines: serde_json::Value = found.expect_code(0).json();
    let (first, second) = (&lines[0], &lines[1]);
    assert_eq!((&first["line"], &first["cut"]), (&1.into(), &true.into()), "{found}");
    let text = first["text"].as_str().expect("text");
    let at = first["offset"].as_u64().expect("an offset") + text.find("needle").expect("it") as u64;
    assert_eq!((at, text.len()), (70_000_000, 16 * 1024));
    assert_eq!((&second["line"], &second["offset"]), (&2.into(), &104_857_601_u64.into()));
    let usage = cluster.last_operation().usage.expect("what it used");
    assert!(usage.max_rss_kib < 60 * 1024, "{usage:?}");
}

#[test]
fn blocked_paths_are_neither_searched_nor_named() {
    let cluster = Cluster::start();
    let folder = filled();
    let secret = folder.path().join("app/log");
    let policy = format!("[paths]\nblocked = [{:?}]\n", secret.display());
    let _web = cluster.agent("web-1").policy(&policy).start();
    let target = [on("web-1", folder.path())];
    let found = cluster.reeve(files(["find", "-n", "*log*"], &target));
    found.expect_code(0).expect_stdout("").expect_says("1 file or folder was left out");
    let found = cluster.reeve(files(["grep", "ERROR (one|two|hidden)"], &target));
    found.expect_code(1).expect_stdout("").expect_says("1 file or folder was left out");
    assert!(!found.all().contains("today.log"), "{found}");
    for path in [secret.clone(), secret.join("today.log")] {
        for line in [["grep", "ERROR"].as_slice(), &["find"], &["stat"]] {
            let mut all = words(["files"]);
            all.extend(line.iter().map(OsString::from));
            all.push(on("web-1", &path));
            let refused = cluster.reeve(all);
            refused.expect_says("this machine's policy does not let Reeve touch");
            assert_ne!(refused.code, 0, "{refused}");
        }
    }
    // Another name for the same file leads to nothing else.
    let link = folder.path().join("innocent");
    std::os::unix::fs::symlink(secret.join("today.log"), &link).expect("linked");
    let refused = cluster.reeve(files(["stat", "-L"], &[on("web-1", &link)]));
    refused.expect_code(1).expect_says("policy");
}

#[test]
fn many_machines_are_asked_at_once_and_named() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").label("role", "web").start();
    let _other = cluster.agent("web-2").label("role", "web").start();
    let folder = filled();
    let log = folder.path().join("app/log/today.log");
    let found = cluster.reeve(files(["grep", "-F", "one"], &[on("role=web", &log)]));
    let mut lines: Vec<String> = found.expect_code(0).text().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    let shown = log.display();
    assert_eq!(lines, [format!("web-1:{shown}:2:ERROR one"), format!("web-2:{shown}:2:ERROR one")]);
    let found = cluster.reeve(files(["find", "-n", "*.conf"], &[on("web-*", folder.path())]));
    assert_eq!(found.expect_code(0).text().lines().count(), 2, "{found}");
    let stat = cluster.reeve(files(["stat", "--hash"], &[on("web-1,web-2", &log)]));
    let hash = blake3::hash(&fs::read(&log).expect("read")).to_hex().to_string();
    assert_eq!(stat.expect_code(0).text().matches(&hash).count(), 2, "{stat}");
    // One machine that fails is told of, and the others' answers are there.
    let missing = cluster.reeve(files(["stat"], &[on("web-1", "/no/such"), on("web-2", &log)]));
    missing.expect_code(1).expect_says("reeve: web-1: /no/such is not there");
    missing.expect_says(&format!("web-2:{shown}"));
}
