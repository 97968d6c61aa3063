//! `reeve files`, as people type it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use reeve_tests::{Cluster, Finished};

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
        for line in ["grep ERROR", "find", "stat", "ls", "tree", "cat", "history", "rm", "mkdir"] {
            let mut all = words(["files"]);
            all.extend(line.split(' ').map(OsString::from));
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

#[test]
fn trees_are_drawn() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = filled();
    let base = folder.path().display();
    let drawn = cluster.reeve(files(["tree"], &[on("web-1", folder.path())]));
    drawn.expect_code(0).expect_stdout(&format!(
        "{base}\n└── app\n    ├── app.conf\n    ├── data.bin\n    ├── log\n    │   └── today.log\n    \
         ├── out -> /etc\n    └── pipe\n\n2 folders, 5 files\n"
    ));
    let folders = cluster.reeve(files(["tree", "-d", "-L", "1"], &[on("web-1", folder.path())]));
    folders.expect_code(0).expect_stdout(&format!("{base}\n└── app\n\n1 folders, 0 files\n"));
}

#[test]
fn folders_are_made_and_things_moved_and_removed() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _other = cluster.agent("web-2").start();
    let folder = filled();
    let at = |name: &str| folder.path().join(name);
    let path = |name: &str| OsString::from(at(name));

    cluster.reeve(files(["mkdir", "-m", "700"], &[on("web-1", at("new"))])).expect_code(0);
    let again = cluster.reeve(files(["mkdir"], &[on("web-1", at("new"))]));
    again.expect_code(1).expect_says("is there already");
    cluster.reeve(files(["mkdir", "-p"], &[on("web-1", at("new/a/b"))])).expect_code(0);
    assert!(at("new/a/b").is_dir());

    cluster.reeve(files(["mv"], &[on("web-1", at("app/app.conf")), path("new/")])).expect_code(0);
    assert!(at("new/app.conf").is_file() && !at("app/app.conf").exists());
    let over = [on("web-1", at("new/app.conf")), path("app/data.bin")];
    cluster.reeve(files(["mv"], &over)).expect_code(1).expect_says("is there already");
    cluster.reeve(files(["mv", "--replace"], &over)).expect_code(0);
    assert!(fs::read(at("app/data.bin")).expect("moved").starts_with(b"port = 80"));
    let across = [on("web-1", at("app/data.bin")), on("web-2", "/x")];
    cluster.reeve(files(["mv"], &across)).expect_code(2).expect_says("reeve cp");
    cluster.reeve(files(["mv"], &[on("web-1", "/x"), "y".into()])).expect_code(2);

    cluster.reeve(files(["rm"], &[on("web-1", at("app/data.bin"))])).expect_code(0);
    assert!(!at("app/data.bin").exists());
    // The link goes, not what it leads to.
    cluster.reeve(files(["rm"], &[on("web-1", at("app/out"))])).expect_code(0);
    assert!(!at("app/out").is_symlink() && Path::new("/etc/passwd").exists());
    cluster
        .reeve(files(["rm"], &[on("web-1", at("app"))]))
        .expect_code(1)
        .expect_says("something in it");
    cluster
        .reeve(files(["rm", "-r"], &[on("web-1", at("app"))]))
        .expect_code(2)
        .expect_says("give --yes");
    cluster
        .reeve(files(["rm"], &[on("web-*", at("app/pipe"))]))
        .expect_code(2)
        .expect_says("on 2 machines (web-1, web-2)");
    assert!(at("app/log/today.log").exists() && at("app/pipe").exists());
    let gone = cluster.reeve(files(["rm", "-r", "--yes"], &[on("web-1", at("app"))]));
    gone.expect_code(0).expect_says("2 versions kept");
    assert!(!at("app").exists());
    cluster.reeve(files(["rm", "-r", "--yes"], &[on("web-1", "/")])).expect_code(255);

    let odd = at("-rf *\n'\"");
    fs::write(&odd, "x").expect("written");
    cluster.reeve(files(["rm"], &[on("web-1", &odd)])).expect_code(0);
    assert!(!odd.exists());
}

#[test]
fn modes_are_changed_as_chmod_does() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = filled();
    let conf = folder.path().join("app/app.conf");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    let chmod = |words: &[&str], path: &Path| {
        let mut all = words_of(words);
        all.push(on("web-1", path));
        cluster.reeve(all)
    };
    chmod(&["files", "chmod", "604"], &conf).expect_code(0);
    assert_eq!(mode(&conf), 0o604);
    chmod(&["files", "chmod", "u+x,o=,g=r"], &conf).expect_code(0);
    assert_eq!(mode(&conf), 0o740);
    chmod(&["files", "chmod", "-R", "go+rX"], folder.path()).expect_code(2).expect_says("--yes");
    chmod(&["files", "chmod", "-R", "-y", "u=rw,go=rX,u+X"], &folder.path().join("app"))
        .expect_code(0);
    assert_eq!(mode(&conf), 0o755);
    assert_eq!(mode(&folder.path().join("app/log/today.log")), 0o644);
    chmod(&["files", "chmod", "--owner", "12345:23456"], &conf).expect_code(0);
    let about = fs::metadata(&conf).expect("there");
    assert_eq!((about.uid(), about.gid()), (12345, 23456));
    chmod(&["files", "chmod", "rwx"], &conf).expect_code(2).expect_says("is no mode");
    chmod(&["files", "chmod"], &conf).expect_code(2).expect_says("--owner");
    chmod(&["files", "chmod", "--owner", "nobody-here"], &conf).expect_code(1);
}

fn words_of(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[test]
fn cat_gives_every_byte() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _other = cluster.agent("web-2").start();
    let folder = folder();
    let path = folder.path().join("bytes");
    let content: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&path, &content).expect("written");
    let cat = cluster.reeve(files(["cat"], &[on("web-1", &path)]));
    cat.expect_code(0);
    assert!(cat.stdout == content, "{} of {} bytes", cat.stdout.len(), content.len());
    let text = folder.path().join("text");
    // Nothing of it is kept at the coordinator; of what others say something is, so this can fail.
    let kept = |word: &str| {
        let found = std::process::Command::new("grep")
            .args(["-r", "-q", "-a", word])
            .arg(cluster.coordinator.data())
            .status();
        found.expect("grep").success()
    };
    fs::write(&text, "passed-on-only\nstored-as-well\n").expect("written");
    cluster
        .reeve(files(["cat"], &[on("web-1", &text)]))
        .expect_code(0)
        .expect_says("passed-on-only");
    cluster.reeve(files(["grep", "stored"], &[on("web-1", &text)])).expect_code(0);
    assert!(kept("stored-as-well") && !kept("passed-on-only"));
    fs::write(&text, "a\n").expect("written");
    let twice = cluster.reeve(files(["cat"], &[on("web-*", &text), on("web-1", &text)]));
    twice.expect_code(0).expect_stdout("a\na\na\n");
    let empty = folder.path().join("empty");
    fs::write(&empty, "").expect("written");
    cluster.reeve(files(["cat"], &[on("web-1", &empty)])).expect_code(0).expect_stdout("");
    let missing = cluster.reeve(files(["cat"], &[on("web-1", "/no/such"), on("web-1", &text)]));
    missing.expect_code(1).expect_stdout("a\n").expect_says("reeve: web-1: /no/such is not there");
    cluster
        .reeve(files(["cat"], &[on("web-1", "/etc/shadow")]))
        .expect_code(1)
        .expect_says("policy");
    cluster.reeve(files(["cat"], &[on("web-1", folder.path())])).expect_code(1);
}

/// `reeve files edit` with a script as the editor; what the script does to the file `$1`.
fn edit(cluster: &Cluster, script: &str, more: &[&str], path: &Path) -> Finished {
    let mut line = words_of(&["files", "edit"]);
    line.extend(words_of(more));
    line.push(on("web-1", path));
    let editor = cluster.folder().join("editor.sh");
    fs::write(&editor, script).expect("written");
    let (mut command, _) = cluster.reeve_command(cluster.api.token(), line);
    let temporary = cluster.folder().join("tmp");
    fs::create_dir_all(&temporary).expect("a folder");
    command.env("EDITOR", format!("sh {}", editor.display())).env("TMPDIR", &temporary);
    cluster.finish(command)
}

/// Copies that were not cleared away.
fn copies(cluster: &Cluster) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(cluster.folder().join("tmp")).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn edit_writes_back_what_was_changed_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let path = folder.path().join("app.conf");
    fs::write(&path, "port = 80\nname = a\n").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");

    let same = edit(&cluster, "true", &[], &path);
    same.expect_code(0).expect_says("unchanged; nothing was written");

    let look = "case \"$1\" in *.conf) ;; *) exit 9 ;; esac\n\
                test \"$(stat -c %a \"$1\")\" = 600 || exit 8\n\
                sed -i s/80/8080/ \"$1\"";
    let done = edit(&cluster, look, &["--yes"], &path);
    done.expect_code(0).expect_says("-port = 80\n+port = 8080\n").expect_says("written");
    assert_eq!(fs::read_to_string(&path).expect("read"), "port = 8080\nname = a\n");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
    assert_eq!(copies(&cluster), Vec::<std::path::PathBuf>::new());

    // Nobody can be asked here, so nothing is written; the text stays.
    let unasked = edit(&cluster, "echo more >> \"$1\"", &[], &path);
    unasked.expect_code(255).expect_says("--yes").expect_says("your text is in");
    assert!(!fs::read_to_string(&path).expect("read").contains("more"));
    let kept = copies(&cluster).remove(0);
    assert!(fs::read_to_string(kept.join("app.conf")).expect("read").contains("more"));
    assert_eq!(fs::metadata(&kept).expect("there").permissions().mode() & 0o777, 0o700);
    fs::remove_dir_all(&kept).expect("removed");

    let failed = edit(&cluster, "exit 3", &["--yes"], &path);
    failed.expect_code(255).expect_says("ended with 3; nothing was written");
    assert_eq!(copies(&cluster).len(), 0);

    let conflict = format!("echo mine >> \"$1\"; echo theirs >> '{}'", path.display());
    let conflict = edit(&cluster, &conflict, &["--yes"], &path);
    conflict.expect_code(1).expect_says("changed on the machine while you edited it");
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.ends_with("theirs\n") && !text.contains("mine"), "{text}");
    let kept = copies(&cluster).remove(0).join("app.conf");
    assert!(fs::read_to_string(&kept).expect("read").ends_with("mine\n"));
    conflict.expect_says(&kept.display().to_string());

    let new = folder.path().join("new.conf");
    edit(&cluster, "echo hello > \"$1\"", &["--yes"], &new).expect_code(0);
    assert_eq!(fs::read_to_string(&new).expect("read"), "hello\n");
    edit(&cluster, "echo x > \"$1\"", &["--yes"], Path::new("/etc/shadow")).expect_code(1);
}

#[test]
fn versions_are_listed_and_put_back() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _other = cluster.agent("web-2").start();
    let folder = folder();
    let path = folder.path().join("app.conf");
    fs::write(&path, "one\n").expect("written");
    let target = [on("web-1", &path)];
    cluster.reeve(files(["history"], &target)).expect_code(0).expect_says("no versions were kept");
    for text in ["two\n", "three\n"] {
        let new = folder.path().join("new");
        fs::write(&new, text).expect("written");
        let over = [on("web-1", &new), OsString::from(&path)];
        cluster.reeve(files(["mv", "--replace"], &over)).expect_code(0);
    }
    let history = cluster.reeve(files(["history", "-o", "json"], &target));
    let versions: serde_json::Value = history.expect_code(0).json();
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "{history}");
    let id = |index: usize| versions[index]["id"].to_string();
    cluster.reeve(files(["history"], &target)).expect_code(0).expect_says("moved over");

    let same = [on("web-1", &path), on("web-2", &path)];
    cluster.reeve(files(["diff"], &same)).expect_code(0).expect_stdout("");
    let here = folder.path().join("here");
    fs::write(&here, "three\n").expect("written");
    let mut local = vec![OsString::from(&here)];
    local.push(on("web-1", &path));
    cluster.reeve(files(["diff"], &local)).expect_code(0);
    fs::write(&here, "four").expect("written");
    cluster.reeve(files(["diff"], &local)).expect_code(1).expect_says("No newline at end of file");
    let missing = [on("web-1", "/no/such"), on("web-1", &path)];
    cluster.reeve(files(["diff"], &missing)).expect_code(2).expect_says("is not there");
    cluster.reeve(files(["diff"], &[on("web-*", &path)])).expect_code(2);

    let asked = cluster.reeve(files(["restore"], &target));
    asked.expect_code(2).expect_says("give --yes").expect_says("instead of what is there now");
    assert_eq!(fs::read_to_string(&path).expect("read"), "three\n");
    cluster.reeve(files(["restore", "--yes"], &target)).expect_code(0);
    assert_eq!(fs::read_to_string(&path).expect("read"), "two\n");
    cluster.reeve(files(["restore", "--yes", "--version", &id(1)], &target)).expect_code(0);
    assert_eq!(fs::read_to_string(&path).expect("read"), "one\n");
    cluster.reeve(files(["restore", "--version", "999999"], &target)).expect_code(255);

    cluster.reeve(files(["rm"], &target)).expect_code(0);
    let back = cluster.reeve(files(["restore", "--yes"], &target));
    back.expect_code(0).expect_says("nothing is there now");
    assert_eq!(fs::read_to_string(&path).expect("read"), "one\n");
    let blocked = cluster.reeve(files(["history"], &[on("web-1", "/etc/shadow")]));
    blocked.expect_code(1).expect_says("policy");
}
#[test]
fn edits_keep_versions_that_can_be_compared() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _other = cluster.agent("web-2").start();
    let folder = folder();
    let path = folder.path().join("app.conf");
    fs::write(&path, "one\n").expect("written");
    let target = [on("web-1", &path)];
    cluster.reeve(files(["history"], &target)).expect_code(0).expect_says("no versions were kept");
    edit(&cluster, "echo two > \"$1\"", &["--yes"], &path).expect_code(0);
    edit(&cluster, "echo three > \"$1\"", &["--yes"], &path).expect_code(0);

    let history = cluster.reeve(files(["history", "-o", "json"], &target));
    let versions: serde_json::Value = history.expect_code(0).json();
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "{history}");
    let id = |index: usize| versions[index]["id"].to_string();
    cluster.reeve(files(["history"], &target)).expect_code(0).expect_says("overwritten");

    let last = cluster.reeve(files(["diff"], &target));
    last.expect_code(1).expect_says("\n-two\n+three\n").expect_says("app.conf (version ");
    let older = cluster.reeve(files(["diff", "--version", &id(1)], &target));
    older.expect_code(1).expect_says("\n-one\n+three\n");
    let line = ["diff", "--version", &id(1), "--version", &id(0)];
    cluster.reeve(files(line, &target)).expect_code(1).expect_says("\n-one\n+two\n");
    let same = [on("web-1", &path), on("web-2", &path)];
    cluster.reeve(files(["diff"], &same)).expect_code(0).expect_stdout("");
    let here = folder.path().join("here");
    fs::write(&here, "three\n").expect("written");
    let mut local = vec![OsString::from(&here)];
    local.push(on("web-1", &path));
    cluster.reeve(files(["diff"], &local)).expect_code(0);
    fs::write(&here, "four").expect("written");
    cluster.reeve(files(["diff"], &local)).expect_code(1).expect_says("No newline at end of file");
    let missing = [on("web-1", "/no/such"), on("web-1", &path)];
    cluster.reeve(files(["diff"], &missing)).expect_code(2).expect_says("is not there");
    cluster.reeve(files(["diff"], &[on("web-*", &path)])).expect_code(2);
    let old = cluster.reeve(files(["cat", "--version", &id(1)], &target));
    old.expect_code(0).expect_stdout("one\n");

    let asked = cluster.reeve(files(["restore"], &target));
    asked.expect_code(2).expect_says("give --yes").expect_says("instead of what is there now");
    assert_eq!(fs::read_to_string(&path).expect("read"), "three\n");
    cluster.reeve(files(["restore", "--yes"], &target)).expect_code(0);
    assert_eq!(fs::read_to_string(&path).expect("read"), "two\n");
    cluster.reeve(files(["restore", "--yes", "--version", &id(1)], &target)).expect_code(0);
    assert_eq!(fs::read_to_string(&path).expect("read"), "one\n");
    cluster.reeve(files(["restore", "--version", "999999"], &target)).expect_code(255);

    cluster.reeve(files(["rm"], &target)).expect_code(0);
    let back = cluster.reeve(files(["restore", "--yes"], &target));
    back.expect_code(0).expect_says("nothing is there now");
    assert_eq!(fs::read_to_string(&path).expect("read"), "one\n");
    let blocked = cluster.reeve(files(["history"], &[on("web-1", "/etc/shadow")]));
    blocked.expect_code(1).expect_says("policy");
}
