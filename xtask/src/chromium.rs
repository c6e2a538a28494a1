//! A Chromium for the test that opens a report page: found, or installed where that is easy. Without one the test says
//! that it was not run.

use super::apt::{Apt, succeeds};

/// What it is called on several systems; `CHROMIUM` in the environment goes first. tests/report_page.rs looks for the
/// same.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Installs Chromium where there is none and a package manager is at hand; else says what will not be tested.
pub fn ensure() {
    if is_there() {
        return;
    }
    let installed = match Apt::find() {
        Some(apt) if cfg!(target_os = "linux") => {
            println!("no Chromium: installing chromium");
            apt.install("chromium")
        }
        _ => Err("there is no Chromium".to_owned()),
    };
    // Ubuntu's package may be a mere pointer to a snap.
    match installed {
        Ok(()) if is_there() => {}
        Ok(()) => println!("the package chromium brought no browser: report pages will not be opened in one"),
        Err(why) => println!(
            "{why}: report pages will not be opened in a browser; install one, or name it by CHROMIUM, to test that too"
        ),
    }
}

fn is_there() -> bool {
    std::env::var_os("CHROMIUM").is_some() || NAMES.iter().any(|name| succeeds(name, &["--version"]))
}
