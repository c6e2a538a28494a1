//! `flowgpu report`, as someone meets it who has to judge an evaluation: the page is opened in a browser where there is
//! one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flowgpu::image::Image;
use tempfile::TempDir;

fn flowgpu(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_flowgpu")).args(arguments).output();
    output.expect("the program starts")
}

/// What the program says on stderr when all is well.
fn told(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told
}

/// The sentence with which the program refuses.
fn refusal(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    told
}

/// Twelve episodes of a rule, some of which fail, in a folder of that name.
fn evaluated(home: &TempDir, folder: &str, arguments: &[&str]) -> String {
    let path = home.path().join(folder).display().to_string();
    told(&[&["eval", "--episodes", "12", "--output-dir", &path], arguments].concat());
    path
}

fn page_of(folder: &str) -> String {
    fs::read_to_string(Path::new(folder).join("report.html")).expect("a page")
}

#[test]
fn a_page_holds_everything_and_equal_evaluations_make_equal_pages() {
    let home = TempDir::new().expect("a folder");
    let folder = evaluated(&home, "noop", &["--policy", "noop"]);
    assert!(told(&["report", &folder]).contains("report.html"));
    let page = page_of(&folder);
    for part in [
        "noop on pursuit",
        "How sure",
        "Why episodes failed",
        "The worst episodes",
        "Conditions",
        "What was measured",
        "How to do it again",
        "3 of 12, 95 % interval 8.9 % to 53.2 %",
        "the expert acts, nothing disturbed: 9 of 9",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    assert_eq!(page.matches("<video").count(), 6);
    assert_eq!(page.matches("src=\"data:video/mp4;base64,").count(), 6);
    // Nothing is fetched from anywhere.
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http") && !page.contains("url("));
    let again = home.path().join("again.html").display().to_string();
    told(&["report", &folder, "--output-file", &again]);
    assert!(fs::read_to_string(again).expect("a page") == page, "the same evaluation, another page");
}

#[test]
fn what_a_policy_is_called_is_text() {
    let home = TempDir::new().expect("a folder");
    let name = "<script>alert(1)</script>\"'&";
    let folder = evaluated(&home, "named", &["--policy", "noop", "--videos", "0", "--name", name]);
    told(&["report", &folder]);
    let page = page_of(&folder);
    assert!(page.contains("<h1>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp; on pursuit</h1>"));
    assert_eq!(page.matches("<script").count(), 1, "its own");
}

#[test]
fn a_person_corrects_a_label_and_takes_it_back() {
    let home = TempDir::new().expect("a folder");
    let folder = evaluated(&home, "noop", &["--policy", "noop", "--videos", "0"]);
    let said = told(&["report", &folder, "--relabel", "0=control"]);
    assert!(said.contains("episode 0 was planning, is control by a person"), "{said}");
    assert!(page_of(&folder).contains("a person&#39;s; the rules said planning"));
    // It is kept for the next page.
    told(&["report", &folder]);
    assert!(page_of(&folder).contains("a person&#39;s; the rules said planning"));
    let said = told(&["report", &folder, "--relabel", "0="]);
    assert!(said.contains("episode 0 was control, is planning by the rules"), "{said}");
    assert!(!page_of(&folder).contains("a person&#39;s"));
}

#[test]
fn a_correction_that_does_not_fit_changes_nothing() {
    let home = TempDir::new().expect("a folder");
    let folder = evaluated(&home, "noop", &["--policy", "noop", "--videos", "0"]);
    for (correction, why) in [
        ("1=control", "episode 1 did not fail: it has no label"),
        ("12=control", "there is no episode 12: use 0 to 11"),
        ("0=luck", "unknown failure label `luck`: known are perception"),
        ("control", "use EPISODE=LABEL, as in 17=control"),
        ("one=control", "use EPISODE=LABEL"),
    ] {
        // A good one beside it is not kept either.
        let said = refusal(&["report", &folder, "--relabel", "0=control", "--relabel", correction]);
        assert!(said.contains(why), "{said}");
        assert!(
            !Path::new(&folder).join("labels.json").exists()
                && !Path::new(&folder).join("report.html").exists()
        );
    }
    let said = refusal(&["report", &folder, &folder, "--relabel", "0=control"]);
    assert!(said.contains("--relabel is for one folder"), "{said}");
}

#[test]
fn several_evaluations_stand_side_by_side_and_others_are_named_and_not_compared() {
    let home = TempDir::new().expect("a folder");
    let noop = evaluated(&home, "noop", &["--policy", "noop", "--videos", "0"]);
    let expert = evaluated(&home, "expert", &["--policy", "expert", "--videos", "0"]);
    let later = evaluated(&home, "later", &["--policy", "expert", "--videos", "0", "--seed", "7"]);
    told(&["report", &noop, &expert, &later]);
    let page = fs::read_to_string(home.path().join("report.html")).expect("beside the first");
    assert!(page.contains("expert (expert) succeeds more often than noop: 1.00 against 0.25"), "no verdict");
    assert!(page.contains("expert (later) is not compared with noop: they differ in seed."), "no warning");
    assert_eq!(page.matches("<article").count(), 3);
}

#[test]
fn what_is_no_finished_evaluation_is_refused_by_its_file() {
    let home = TempDir::new().expect("a folder");
    let nothing = home.path().join("nothing").display().to_string();
    assert!(refusal(&["report", &nothing]).contains("run.json: cannot be read"));
    let folder = evaluated(&home, "noop", &["--policy", "noop", "--videos", "0"]);
    let output = flowgpu(&["report", &folder, "--output-file", &format!("{nothing}/page.html")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing/page.html"), "{said}");
    let path = Path::new(&folder).join("episodes.jsonl");
    let lines = fs::read_to_string(&path).expect("lines");
    fs::write(&path, &lines[..lines.len() - 40]).expect("writes");
    assert!(refusal(&["report", &folder]).contains("episodes.jsonl, line 12: it is cut off"));
    let last = lines.trim_end().rfind('\n').expect("lines");
    fs::write(&path, &lines[..=last]).expect("writes");
    assert!(refusal(&["report", &folder]).contains("holds 11 of 12 episodes"));
    let path = Path::new(&folder).join("run.json");
    let run = fs::read_to_string(&path).expect("a run").replace("\"schema\": 1", "\"schema\": 0");
    fs::write(&path, run).expect("writes");
    assert!(
        refusal(&["report", &folder]).contains("is of schema 0, this program reads schema 1: evaluate again")
    );
}

#[test]
fn a_browser_shows_the_page_with_all_its_videos_in_light_and_in_dark() {
    let Some(browser) = Browser::find() else {
        println!("not run: there is no Chromium; install one, or name it by CHROMIUM");
        return;
    };
    let home = TempDir::new().expect("a folder");
    let folder = evaluated(&home, "noop", &["--policy", "noop"]);
    told(&["report", &folder]);
    let page = format!("file://{folder}/report.html");

    let (document, said) = browser.run(&["--dump-dom", "--timeout=10000", &page]);
    assert!(document.contains("data-videos=\"6/6\""), "videos that do not play: {said}");
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains(":CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    let [light, dark] = [("light", 1), ("dark", 0)].map(|(name, scheme)| {
        let file = home.path().join(format!("{name}.png"));
        let shot = format!("--screenshot={}", file.display());
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        let (_, said) = browser.run(&[&shot, &scheme, "--window-size=1000,2400", "--timeout=10000", &page]);
        Image::from_png(&fs::read(file).expect(&said)).expect("a picture")
    });
    for picture in [&light, &dark] {
        let colours: std::collections::BTreeSet<&[u8]> = picture.pixels.chunks_exact(3).collect();
        assert!(colours.len() > 100, "{} colours: a blank page", colours.len());
    }
    assert!(brightness(&light) > 200.0 && brightness(&dark) < 80.0, "light and dark do not differ");
}

fn brightness(picture: &Image) -> f64 {
    picture.pixels.iter().map(|&value| f64::from(value)).sum::<f64>() / picture.pixels.len() as f64
}

/// A headless Chromium with a profile of its own.
struct Browser {
    program: PathBuf,
    profile: TempDir,
}

impl Browser {
    fn find() -> Option<Self> {
        let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
        // xtask/src/chromium.rs looks for the same.
        let names =
            ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].map(PathBuf::from);
        let starts = |program: &PathBuf| {
            Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        let program = named.into_iter().chain(names).find(starts)?;
        Some(Self { program, profile: TempDir::new().expect("a folder") })
    }

    /// What it writes to stdout, and what it says.
    fn run(&self, arguments: &[&str]) -> (String, String) {
        let output = Command::new(&self.program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args(["--enable-logging=stderr", "--v=0"])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .args(arguments)
            .output()
            .expect("it started before");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }
}
