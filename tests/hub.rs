//! Datasets by name: LeRobot's local cache, and a Hub on loopback that this file plays.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use flowgpu::data::{Dataset, DatasetWriter, Feature, Features, Places};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub with one dataset.
#[derive(Clone, Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    /// The revisions it knows.
    revisions: Vec<&'static str>,
    /// Answers nobody who has no such token.
    token: Option<&'static str>,
    /// Ends this file's transfers half-way.
    cut: Option<&'static str>,
    /// Announces that much more than it sends, in the header that hf-hub takes a size from.
    boast: usize,
}

/// A running Hub, and every request it got.
struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn count(&self, part: &str) -> usize {
        self.requests.lock().expect("no panic").iter().filter(|request| request.contains(part)).count()
    }
}

impl Hub {
    fn start(self) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is no concern of the others.
                let _ = stream.and_then(|stream| self.answer(stream, &seen));
            }
        });
        Server { endpoint, requests }
    }

    fn answer(&self, stream: TcpStream, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
        seen.lock().expect("no panic").push(path.clone());
        let header = |name: &str| {
            let found = |line: &String| Some(line.split_once(": ")?.1.to_owned());
            lines.iter().find(|line| line.to_lowercase().starts_with(name)).and_then(found)
        };
        let reply = |status: &str, headers: &str, body: &[u8], announced: usize| {
            let mut stream = &stream;
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {announced}\r\nConnection: close\r\n{headers}\r\n"
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)
        };
        if self.token.is_some_and(|token| header("authorization") != Some(format!("Bearer {token}"))) {
            return reply("401 Unauthorized", "", b"", 0);
        }
        let wanted = path.strip_prefix("/api/datasets/me/balls/revision/");
        if wanted.is_some_and(|revision| self.revisions.contains(&revision)) {
            let siblings: Vec<_> =
                self.files.keys().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
            let body = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, siblings.join(","));
            return reply("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), body.len());
        }
        let name = path.strip_prefix(&format!("/datasets/me/balls/resolve/{COMMIT}/"));
        let Some((name, bytes)) = name.and_then(|name| Some((name, self.files.get(name)?))) else {
            return reply("404 Not Found", "", b"", 0);
        };
        let range = header("range").unwrap_or_default();
        let (from, to) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
        let from: usize = from.parse().unwrap_or(0).min(bytes.len());
        let to = to.parse().map_or(bytes.len(), |to: usize| (to + 1).min(bytes.len()));
        let mut body = &bytes[from..to];
        let announced = body.len();
        if self.cut == Some(name) && announced > 1 {
            body = &body[..announced / 2];
        }
        let headers = format!(
            "ETag: \"{name_hash}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {from}-{}/{}\r\n",
            to.saturating_sub(1),
            bytes.len() + self.boast,
            name_hash = name.replace('/', "-"),
        );
        reply("206 Partial Content", &headers, body, announced)
    }
}

/// A dataset of two episodes, as the files of a repository with two that are no part of it.
fn files() -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let features = Features::new()
        .with("observation.state", Feature::vector(&["x", "y"]))
        .with("action", Feature::vector(&["x"]));
    let mut writer = DatasetWriter::create(folder.path(), 10, None, &features).expect("a writer");
    for episode in 0..2 {
        for frame in 0..5 {
            let state = [frame as f32, episode as f32];
            let vectors = [("observation.state", &state[..]), ("action", &[0.5][..])];
            writer.add_frame(&[], &vectors, "roll").expect("a frame");
        }
        writer.end_episode().expect("an episode");
    }
    writer.finish().expect("a dataset");
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder.path()).expect("below").to_string_lossy().into_owned();
                files.insert(name, std::fs::read(path).expect("a file"));
            }
        }
    }
    files.insert("README.md".into(), b"balls".to_vec());
    files.insert("data/../../escape.txt".into(), b"out".to_vec());
    files
}

fn hub() -> Hub {
    Hub { files: files(), revisions: vec!["v3.0", "main"], ..Hub::default() }
}

fn places(home: &Path, server: &Server) -> Places {
    Places { home: home.to_path_buf(), endpoint: server.endpoint.clone(), token: None, offline: false }
}

fn locate(places: &Places) -> Result<PathBuf, String> {
    places.locate("me/balls", &mut |_| {}).map_err(|e| e.to_string())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The program with an environment of its own.
fn flowgpu(home: &Path, endpoint: &str, arguments: &[&str], more: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    for name in
        ["HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.env("HF_LEROBOT_HOME", home).env("HF_ENDPOINT", endpoint).env("NODEVICE_SELECT", "1");
    command.envs(more.iter().copied()).current_dir(home).args(arguments).output().expect("the program starts")
}

#[test]
fn a_dataset_is_fetched_once_and_opens() {
    let (home, server) = (folder(), hub().start());
    let mut said = Vec::new();
    let found =
        places(home.path(), &server).locate("me/balls", &mut |line| said.push(line)).expect("fetched");
    assert!(found.starts_with(home.path().join("hub")), "{}", found.display());
    assert_eq!(Dataset::open(&found).expect("opens").episodes.len(), 2);
    assert!(said.iter().any(|line| line.contains("meta/info.json")), "{said:?}");
    assert_eq!(server.count("README") + server.count("escape"), 0);
    let before = server.count("/resolve/");
    assert_eq!(locate(&places(home.path(), &server)), Ok(found.clone()));
    assert_eq!(server.count("/resolve/"), before, "what is there is not fetched again");
    let offline = Places { offline: true, ..places(home.path(), &server) };
    assert_eq!(locate(&offline), Ok(found.clone()));
    let gone = Places { endpoint: "http://127.0.0.1:9".to_owned(), ..places(home.path(), &server) };
    let mut said = Vec::new();
    assert_eq!(gone.locate("me/balls", &mut |line| said.push(line)), Ok(found));
    assert!(said[0].contains("taking the copy"), "{said:?}");
}

#[test]
fn what_lerobot_recorded_is_used_without_a_question() {
    let (home, server) = (folder(), hub().start());
    for (name, bytes) in files() {
        let path = home.path().join("me/balls").join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }
    assert_eq!(locate(&places(home.path(), &server)), Ok(home.path().join("me/balls")));
    assert_eq!(server.count("/"), 0);
}

#[test]
fn without_the_tag_the_branch_is_taken() {
    let (home, server) = (folder(), Hub { revisions: vec!["main"], ..hub() }.start());
    let found = locate(&places(home.path(), &server)).expect("fetched");
    assert_eq!(Dataset::open(found).expect("opens").episodes.len(), 2);
    assert_eq!((server.count("revision/v3.0"), server.count("revision/main")), (1, 1));
}

#[test]
fn an_unknown_or_private_dataset_says_what_to_do() {
    let (home, server) = (folder(), Hub { revisions: vec![], ..hub() }.start());
    let said = locate(&places(home.path(), &server)).expect_err("unknown");
    assert!(said.contains("has no dataset `me/balls`, or it is private or gated"), "{said}");
    assert!(said.contains("set HF_TOKEN"), "{said}");
    let server = Hub { token: Some("secret"), ..hub() }.start();
    assert!(locate(&places(home.path(), &server)).expect_err("private").contains("private"));
    let with_token = Places { token: Some("secret".into()), ..places(home.path(), &server) };
    assert!(locate(&with_token).is_ok());
    let server = Hub { files: BTreeMap::from([("README.md".into(), vec![0])]), ..hub() }.start();
    let home = folder();
    let said = locate(&places(home.path(), &server)).expect_err("no dataset");
    assert!(said.contains("it is no LeRobotDataset"), "{said}");
}

#[test]
fn a_broken_transfer_is_no_dataset_and_goes_on_later() {
    let home = folder();
    let broken = Hub { cut: Some("data/chunk-000/file-000.parquet"), ..hub() }.start();
    let said = locate(&places(home.path(), &broken)).expect_err("cut short");
    assert!(said.contains("file-000.parquet") && said.contains("the transfer broke"), "{said}");
    let offline = Places { offline: true, ..places(home.path(), &broken) };
    assert!(locate(&offline).expect_err("half a dataset").contains("HF_HUB_OFFLINE"));
    let server = hub().start();
    let found = locate(&places(home.path(), &server)).expect("fetched");
    assert_eq!(Dataset::open(found).expect("opens").episodes.len(), 2);

    let (home, server) = (folder(), Hub { boast: 3, ..hub() }.start());
    let said = locate(&places(home.path(), &server)).expect_err("too few bytes");
    assert!(said.contains("bytes came where the Hub announced"), "{said}");
}

#[test]
fn the_program_takes_a_name_where_it_takes_a_folder() {
    let (home, server) = (folder(), Hub { token: Some("secret"), ..hub() }.start());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let train = "train --preset fast --steps 2 --batch-size 4 --device cpu --output-dir run --dataset.repo_id=me/balls";
    let train: Vec<&str> = train.split(' ').collect();
    let refused = flowgpu(home.path(), &server.endpoint, &train, &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("private or gated"), "{}", text(&refused.stderr));
    let offline = flowgpu(home.path(), &server.endpoint, &train, &[("HF_HUB_OFFLINE", "1")]);
    assert!(offline.status.code() == Some(2) && text(&offline.stderr).contains("HF_HUB_OFFLINE"));
    let trained = flowgpu(home.path(), &server.endpoint, &train, &[("HF_TOKEN", "secret")]);
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    assert!(home.path().join("run/checkpoints/last").exists());
    let bad = flowgpu(home.path(), &server.endpoint, &["train", "--dataset-repo-id", "../x"], &[]);
    assert!(bad.status.code() == Some(2) && text(&bad.stderr).contains("neither a folder nor"));
}
