//! Fetching a dataset from the Hugging Face Hub, file by file, into the cache that LeRobot shares.
//!
//! The cache's `refs/<revision>` is written when every file is there, so that a fetch that was cut short is never taken
//! for a dataset: the next one goes on with it, and offline it does not exist.

use std::path::{Component, Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::locate::Places;
use crate::{Error, Result};

/// The format's tag, as LeRobot sets it, and what is there without one.
const REVISIONS: [&str; 2] = ["v3.0", "main"];

/// What a dataset is made of; a repository has more (README, pictures of it).
const FOLDERS: [&str; 3] = ["meta", "data", "videos"];

/// Times that a file is asked for again after its transfer broke.
const RETRIES: usize = 2;

/// A progress line is due after this many bytes.
const LINE: usize = 64 << 20;

/// The folder of a dataset on the Hub, whose files are fetched unless they are there.
///
/// # Errors
/// If the Hub does not have it, does not show it, cannot be reached or must not be asked, or a transfer breaks.
pub fn fetch(places: &Places, repo_id: &str, progress: &mut dyn FnMut(String)) -> Result<PathBuf> {
    let cache = Cache::new(places.home.join("hub"));
    if places.offline {
        return cached(&cache, repo_id).ok_or_else(|| {
            Error::input(
                "HF_HUB_OFFLINE is set, so the Hub is not asked: unset it, or name a folder with --dataset-root",
            )
        });
    }
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(places.endpoint.clone())
        .with_token(places.token.clone())
        .with_retries(RETRIES)
        .with_progress(false)
        .with_user_agent("flowgpu", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|e| Error::failure(format!("cannot ask the Hub: {e}")))?;
    match listed(&api, places, repo_id) {
        Ok(listed) => download(&api, &cache, repo_id, listed, places, progress),
        Err(Refusal::Unreachable(error)) => match cached(&cache, repo_id) {
            Some(folder) => {
                progress(format!("warning: {error}; taking the copy in {}", folder.display()));
                Ok(folder)
            }
            None => Err(error),
        },
        Err(Refusal::Unknown(error)) => Err(error),
    }
}

/// Why there is no list of files.
enum Refusal {
    /// The Hub has no such dataset, or does not show it.
    Unknown(Error),
    /// There is no answer, or none that means anything.
    Unreachable(Error),
}

/// A dataset's files at one commit.
struct Listed {
    revision: &'static str,
    commit: String,
    files: Vec<String>,
}

/// The copy that is complete, of the revision that counts most.
fn cached(cache: &Cache, repo_id: &str) -> Option<PathBuf> {
    let find = |revision: &str| {
        let repo = cache.repo(repo(repo_id, revision));
        let info = repo.get("meta/info.json")?;
        Some(info.parent()?.parent()?.to_path_buf())
    };
    REVISIONS.into_iter().find_map(find)
}

fn repo(repo_id: &str, revision: &str) -> Repo {
    Repo::with_revision(repo_id.to_owned(), RepoType::Dataset, revision.to_owned())
}

/// Asks for the list of files.
fn listed(api: &Api, places: &Places, repo_id: &str) -> Result<Listed, Refusal> {
    let endpoint = &places.endpoint;
    for revision in REVISIONS {
        match api.repo(repo(repo_id, revision)).info() {
            Ok(info) => {
                let files = info.siblings.into_iter().map(|sibling| sibling.rfilename);
                let files: Vec<_> = files.filter(|name| belongs(name)).collect();
                if !info.sha.bytes().all(|b| b.is_ascii_alphanumeric()) || info.sha.is_empty() {
                    let odd =
                        format!("{endpoint} answers for `{repo_id}` with the odd commit {:?}", info.sha);
                    return Err(Refusal::Unknown(Error::failure(odd)));
                }
                return Ok(Listed { revision, commit: info.sha, files });
            }
            Err(error) => match status(&error) {
                Some(401 | 403 | 404) => {}
                Some(code) => {
                    let what = format!("{endpoint} answers with HTTP status {code}: try again later");
                    return Err(Refusal::Unreachable(Error::failure(what)));
                }
                None => {
                    let what = format!("{endpoint} cannot be asked ({error}); is there a connection?");
                    return Err(Refusal::Unreachable(Error::failure(what)));
                }
            },
        }
    }
    let token = match places.token {
        Some(_) => "the token in HF_TOKEN may not be allowed to read it",
        None => "set HF_TOKEN to a token that may read it",
    };
    Err(Refusal::Unknown(Error::input(format!(
        "{endpoint} has no dataset `{repo_id}`, or it is private or gated: check the name; if it is private, {token}"
    ))))
}

/// The HTTP status of an answer that is an error.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

/// Whether a file is part of a dataset, and its name no way out of a folder.
fn belongs(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let first = parts.next();
    let inside = |part: Component| matches!(part, Component::Normal(_));
    FOLDERS.iter().any(|&folder| first == Some(Component::Normal(folder.as_ref())))
        && parts.all(inside)
        && !name.contains('\\')
}

/// Fetches what is not there yet, and then says that all is.
fn download(
    api: &Api,
    cache: &Cache,
    repo_id: &str,
    listed: Listed,
    places: &Places,
    progress: &mut dyn FnMut(String),
) -> Result<PathBuf> {
    let Listed { revision, commit, files } = listed;
    if !files.iter().any(|name| name == "meta/info.json") {
        return Err(Error::input(format!(
            "`{repo_id}` on {} has no meta/info.json: it is no LeRobotDataset",
            places.endpoint
        )));
    }
    let local = cache.repo(repo(repo_id, &commit));
    let remote = api.repo(repo(repo_id, &commit));
    let folder = local.pointer_path(&commit);
    let count = files.len();
    for (i, name) in files.iter().enumerate() {
        if !folder.join(name).is_file() {
            progress(format!("fetching {repo_id}: {name} ({} of {count})", i + 1));
            transfer(&remote, name, progress).map_err(|e| e.at(format!("`{repo_id}`, {name}")))?;
        }
    }
    if let Some(lost) = files.iter().find(|name| !folder.join(name).is_file()) {
        let what = format!("{} answers for `{repo_id}`, {lost}, with another commit", places.endpoint);
        return Err(Error::failure(what));
    }
    cache
        .repo(repo(repo_id, revision))
        .create_ref(&commit)
        .map_err(|e| Error::failure(format!("cannot write below {}: {e}", cache.path().display())))?;
    Ok(folder)
}

/// Fetches one file.
fn transfer(remote: &ApiRepo, name: &str, progress: &mut dyn FnMut(String)) -> Result<()> {
    let mut size = 0;
    let lines = Lines { name, size: &mut size, done: 0, said: 0, say: progress };
    let path = remote.download_with_progress(name, lines).map_err(|e| match status(&e) {
        Some(401 | 403) => Error::input("the Hub does not let it be read: set HF_TOKEN to a token that may"),
        Some(code) => Error::failure(format!("the Hub answers with HTTP status {code}: try again later")),
        None => Error::failure(format!("the transfer broke ({e}): try again, it goes on where it stopped")),
    })?;
    let found = std::fs::metadata(&path).map_or(0, |data| data.len());
    if found == size as u64 {
        return Ok(());
    }
    // Neither the file nor what it points to is of any use.
    let blob = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let _ = (std::fs::remove_file(blob), std::fs::remove_file(&path));
    Err(Error::failure(format!("{found} bytes came where the Hub announced {size}: try again")))
}

/// Turns the transfer's reports into lines.
struct Lines<'a> {
    name: &'a str,
    size: &'a mut usize,
    done: usize,
    said: usize,
    say: &'a mut dyn FnMut(String),
}

impl Progress for Lines<'_> {
    fn init(&mut self, size: usize, _: &str) {
        *self.size = size;
        self.done = 0;
    }

    fn update(&mut self, bytes: usize) {
        self.done += bytes;
        if self.done >= self.said + LINE {
            self.said = self.done;
            (self.say)(format!("  {}: {} of {} MiB", self.name, self.done >> 20, *self.size >> 20));
        }
    }

    fn finish(&mut self) {}
}
