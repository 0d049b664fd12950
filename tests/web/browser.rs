//! The page in a real browser. Skipped aloud where Chromium or its driver is not installed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::driver::{ARROW_RIGHT, Browser, ENTER, HOME, TAB};
use super::keeping::Kept;
use super::rig::Rig;
use super::service::{Service, TOKEN, until};

const HOSTILE: &str = "<img src=x onerror=\"document.title='broken'\">";
/// Frames whose outlines are compared.
const FRAMES: usize = 200;
/// What has stopped is said to be stale in this time.
const STALE: Duration = Duration::from_secs(1);

/// The bundled model, with names for its classes that no page may take for anything but text.
fn hostile_package(folder: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/imagenette");
    for name in ["model.safetensors", "manifest.toml", "labels.txt"] {
        std::fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let labels = std::fs::read_to_string(folder.join("labels.txt")).unwrap();
    let hostile: String =
        labels.lines().map(|line| format!("{}\t{HOSTILE}\n", line.split('\t').next().unwrap())).collect();
    let digest = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let manifest = std::fs::read_to_string(folder.join("manifest.toml")).unwrap();
    assert!(manifest.contains(&digest(&labels)));
    std::fs::write(folder.join("manifest.toml"), manifest.replace(&digest(&labels), &digest(&hostile))).unwrap();
    std::fs::write(folder.join("labels.txt"), hostile).unwrap();
}

#[test]
fn the_page_shows_what_was_decided_and_asks_for_nothing_elsewhere() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    hostile_package(dir.path());
    let (config, token) = (dir.path().join("cfvit.toml"), dir.path().join("token"));
    let examples = dir.path().join("examples");
    std::fs::write(&token, TOKEN).unwrap();
    let text = format!(
        "[model]\npath = {:?}\n[gate]\nthreshold = 2\n[[camera]]\nname = \"door\"\nsource = \"pattern://?size=320x240&fps=5\"\n\
         [web]\nlisten = \"127.0.0.1:0\"\ntoken_file = {:?}\n[collect]\nfolder = {:?}\nmin_free_mib = 0\n",
        dir.path().display().to_string(),
        token.display().to_string(),
        examples.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let service = Service::configured(&config);
    let origin = format!("http://127.0.0.1:{}/", service.port);
    let decided = note_decisions(&service);
    browser.open(&origin);
    until("the label", || browser.text("label") != "–");
    // Foreign text is text.
    assert_eq!(browser.text("label"), HOSTILE);
    assert!(
        browser.run("return document.querySelectorAll('img').length") == 0
            && browser.run("return document.title") == "cfvit"
    );
    until("it is live", || browser.text("pill") == "live");

    the_outlines_are_those_of_the_same_frame(&browser, &decided);
    the_threshold_moves_by_keyboard(&browser, &service);
    a_picture_is_kept_by_keyboard(&browser, &service, &examples);
    it_fits_its_window_and_everybody_can_use_it(&browser);
    what_stops_is_said_to_be_stale(&browser, &service);
    nothing_else_was_asked_for(&browser, &origin);
}

/// Of all requests that the browser made, not only of those that the page's own script can see.
fn nothing_else_was_asked_for(browser: &Browser, origin: &str) {
    let requests = browser.requests();
    assert!(requests.len() > FRAMES, "{requests:?}");
    let is_ours = |url: &&String| !url.starts_with(origin) && !url.starts_with(&format!("blob:{origin}"));
    let elsewhere: Vec<_> = requests.iter().filter(is_ours).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    // A picture that was gone before it was fetched is no fault of the page. A breach of its policy is one.
    let is_gone = |line: &Value| line["message"].as_str().unwrap().contains("frame.jpg");
    let faults: Vec<_> =
        browser.console().into_iter().filter(|line| line["level"] == "SEVERE" && !is_gone(line)).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

/// Informative cells by frame, as another client is told.
fn note_decisions(service: &Service) -> Arc<Mutex<HashMap<String, Value>>> {
    let (noted, mut events) = (Arc::new(Mutex::new(HashMap::new())), service.events("/api/events?camera=door"));
    let notes = Arc::clone(&noted);
    std::thread::spawn(move || {
        while let Some((kind, data)) = events.try_next() {
            if kind == "decision" {
                notes.lock().unwrap().insert(data["seq"].to_string(), data["informative"].clone());
            }
        }
    });
    noted
}

/// What the page says that it has drawn, and for one frame of ten what is on the canvas.
fn the_outlines_are_those_of_the_same_frame(browser: &Browser, decided: &Mutex<HashMap<String, Value>>) {
    let (mut compared, mut looked_at, begun) = (HashSet::new(), 0, Instant::now());
    let expected = |seq: &str| -> Option<Vec<u64>> {
        let cells = decided.lock().unwrap().get(seq).cloned()?;
        Some(cells.as_array().unwrap().iter().map(|cell| cell.as_u64().unwrap()).collect())
    };
    while compared.len() < FRAMES {
        assert!(begun.elapsed() < Duration::from_secs(400), "only {} frames were compared", compared.len());
        let drawn = browser.run("const {seq, cells} = document.getElementById('canvas').dataset; return {seq, cells}");
        let seq = drawn["seq"].as_str().unwrap_or_default().to_owned();
        if compared.contains(&seq) {
            continue;
        }
        if let Some(cells) = expected(&seq) {
            let words: Vec<String> = cells.iter().map(u64::to_string).collect();
            assert_eq!(drawn["cells"], words.join(","), "frame {seq}");
            assert!(!cells.is_empty());
            compared.insert(seq);
        }
        if compared.len() > 10 * looked_at {
            let canvas = browser.run_async(LOOK);
            // A picture that was gone already is looked at another time.
            let Some(seq) = canvas["seq"].as_str() else { continue };
            let Some(cells) = expected(seq) else { continue };
            looked_at += 1;
            assert_drawn(&cells, &canvas);
        }
    }
    assert!(looked_at >= FRAMES / 10, "{looked_at}");
}

/// That `canvas`, as [`LOOK`] saw it, shows `cells` outlined and the others dimmed.
fn assert_drawn(cells: &[u64], canvas: &Value) {
    let list = |name: &str| -> Vec<u64> {
        canvas[name].as_array().unwrap().iter().map(|cell| cell.as_u64().unwrap()).collect()
    };
    let (dimmed, plain, outlined) = (list("dimmed"), list("plain"), list("outlined"));
    let grid = canvas["grid"].as_u64().unwrap();
    assert!(dimmed.len() + plain.len() > 24, "too dark: {canvas}");
    assert!(dimmed.iter().all(|cell| !cells.contains(cell)), "{cells:?}: {canvas}");
    assert!(plain.iter().all(|cell| cells.contains(cell)), "{cells:?}: {canvas}");
    assert!(cells.iter().all(|cell| outlined.contains(cell)), "{cells:?}: {canvas}");
    // A cell that is too dark to be seen dimmed has the lines of its neighbours around it where all four are outlined.
    let is_enclosed = |cell: u64| {
        let (x, y) = (cell % grid, cell / grid);
        let inside = (1..grid - 1).contains(&x) && (1..grid - 1).contains(&y);
        inside && [cell - 1, cell + 1, cell - grid, cell + grid].iter().all(|next| cells.contains(next))
    };
    let others = outlined.iter().filter(|cell| !cells.contains(cell));
    assert!(others.into_iter().all(|&cell| is_enclosed(cell)), "{cells:?}: {canvas}");
}

/// Compares the canvas with the picture of its frame. Of each cell the middle says whether it was dimmed, where the picture is not black there;
/// the middle of its upper edge whether there is an outline, which a neighbour shares.
const LOOK: &str = "
    const canvas = document.getElementById('canvas');
    const seq = canvas.dataset.seq;
    const pixels = (context) => context.getImageData(0, 0, canvas.width, canvas.height).data;
    const drawn = pixels(canvas.getContext('2d'));
    Promise.all([fetch(`/cameras/door/frame.jpg?seq=${seq}`), fetch('/api/state')]).then(async ([frame, told]) => {
        if (!frame.ok) return done({});
        const { grid, crop } = await told.json();
        const beside = document.createElement('canvas');
        [beside.width, beside.height] = [canvas.width, canvas.height];
        const context = beside.getContext('2d');
        context.drawImage(await createImageBitmap(await frame.blob()), 0, 0);
        const plainly = pixels(context);
        const side = Math.min(canvas.width, canvas.height) * crop;
        const cell = side / grid;
        const [left, top] = [(canvas.width - side) / 2, (canvas.height - side) / 2];
        const at = (data, x, y) => [0, 1, 2].map((channel) => data[4 * (Math.round(y) * canvas.width + Math.round(x)) + channel]);
        const isLine = ([r, g, b]) => r > 150 && g > 110 && b < 0.6 * g;
        const edge = (x, y, dx, dy) => [-2, -1, 0, 1, 2].some((off) => isLine(at(drawn, x + off * dx, y + off * dy)));
        const [dimmed, plain, outlined] = [[], [], []];
        for (let index = 0; index < grid * grid; index += 1) {
            const [x, y] = [left + (index % grid + 0.5) * cell, top + (Math.floor(index / grid) + 0.5) * cell];
            const sum = (data) => at(data, x, y).reduce((sum, value) => sum + value, 0);
            if (sum(plainly) > 60) (sum(drawn) < 0.85 * sum(plainly) ? dimmed : plain).push(index);
            const half = cell / 2;
            const edges = [[x, y - half, 0, 1], [x, y + half, 0, 1], [x - half, y, 1, 0], [x + half, y, 1, 0]];
            if (edges.every((one) => edge(...one)) && !dimmed.includes(index)) outlined.push(index);
        }
        done({ seq, grid, dimmed, plain, outlined });
    }, () => done({}));
";

fn the_threshold_moves_by_keyboard(browser: &Browser, service: &Service) {
    let in_force = || service.camera()["threshold"]["in_force"].as_f64().unwrap();
    assert_eq!(browser.run("return document.getElementById('slider').disabled"), true, "read-only without a login");
    browser.keys("token", &format!("{TOKEN}\n"));
    until("the login", || browser.run("return document.getElementById('slider').disabled") == false);
    // To the left end and one step on; by the tabulator to the number, and to the button that applies it.
    browser.keys("slider", HOME);
    browser.type_keys(ARROW_RIGHT);
    assert_eq!(browser.run("return document.activeElement.getAttribute('aria-valuetext')"), "1 %");
    assert_eq!(in_force(), 2.0, "nothing is sent before it is applied");
    browser.type_keys(TAB);
    browser.type_keys(TAB);
    assert_eq!(browser.run("return document.activeElement.id"), "apply");
    browser.type_keys(ENTER);
    until("the new threshold", || (in_force() - 0.01).abs() < 1e-6);
    until("it is said", || browser.text("threshold-state").contains("changed"));
    until("the gate has moved", || service.camera()["decision"]["stage"] == "coarse");
    until("it is shown", || {
        browser.text("badge") == "coarse was enough" && browser.text("fine").contains("was not asked")
    });
    browser.keys("revert", ENTER);
    until("the old one is back", || in_force() == 2.0 && service.camera()["decision"]["stage"] == "fine");
    until("it is shown", || browser.text("badge") == "fine stage asked");
}

/// The picture stands still and is the one that is saved; a number names it; another key press takes it back.
fn a_picture_is_kept_by_keyboard(browser: &Browser, service: &Service, examples: &Path) {
    let drawn = || browser.run("return document.getElementById('canvas').dataset.seq").as_str().unwrap().to_owned();
    let note = |what: &str| until(what, || browser.text("keep-note").contains(what));
    let kept = || Kept::below(examples);
    until("a picture can be kept", || browser.run("return document.getElementById('keep').disabled") == false);
    browser.keys("keep", "\n");
    note("is kept, not labelled");
    let seq = drawn();
    let decided = || service.camera()["frames"]["decided"].as_u64().unwrap();
    let before = decided();
    until("frames go on", || decided() > before + 5);
    assert_eq!((drawn(), browser.text("pill").as_str()), (seq.clone(), "picture held"));
    assert_eq!(
        kept().iter().map(|kept| (kept.folder.as_str(), kept.seq.as_str())).collect::<Vec<_>>(),
        [("inbox", seq.as_str())]
    );
    let first = browser.run("return document.querySelector('#asking button').dataset.key");
    assert_eq!(first, "1");
    browser.type_keys("2");
    note("kept for");
    until("it is live again", || browser.text("pill") == "live" && drawn() != seq);
    let labelled = kept();
    assert!(labelled.len() == 1 && labelled[0].folder != "inbox" && labelled[0].seq == seq);
    browser.keys("undo", "\n");
    note("not kept after all");
    assert!(kept().is_empty());
    // Nothing is frozen by a key where nothing is asked.
    browser.type_keys("1");
    assert!(kept().is_empty());
    assert!(browser.text("predicted").contains("fine") && browser.text("told") == "none");
}

fn it_fits_its_window_and_everybody_can_use_it(browser: &Browser) {
    for width in [320, 360, 800, 1440] {
        assert!(browser.fits(width), "at {width} pixels");
    }
    // All that can be open is open.
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true");
    // A threshold of 2 is no share.
    let cell =
        || browser.run("return document.querySelector('figure td:last-child:not(tr:first-child td)')?.textContent");
    until("the table of thresholds", || cell() == "always fine");
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for width in [360, 1440] {
            browser.screenshot(width, &format!("live-{width}-{scheme}"));
            if let Some(violations) = browser.axe() {
                assert!(violations.is_empty(), "{scheme}, {width} pixels: {violations:#?}");
            }
        }
    }
}

/// Without the service there is no word of it any more.
fn what_stops_is_said_to_be_stale(browser: &Browser, service: &Service) {
    service.signal(rustix::process::Signal::STOP);
    until("it is stale", || browser.text("pill").contains("stale"));
    browser.screenshot(1440, "stopped-1440-dark");
    service.signal(rustix::process::Signal::CONT);
    until("it is live", || browser.text("pill") == "live");
}

/// Notes when the page first says that the picture is not live any more, by the wall clock.
const WATCH: &str = "
    window.notedAt = null;
    const pill = document.getElementById('pill');
    const look = () => { if (window.notedAt === null && /stale|lost/.test(pill.textContent)) window.notedAt = Date.now(); };
    new MutationObserver(look).observe(pill, { childList: true, characterData: true, subtree: true });
";

#[test]
fn a_camera_that_is_pulled_is_said_to_be_stale_within_a_second() {
    let Some(browser) = Browser::start() else { return };
    let Some(rig) = Rig::new() else { return };
    let mut run = rig.start("?size=320x240&fps=15", &["--threshold", "2", "--web", "127.0.0.1:0"]);
    run.wait_for_lines("page and metrics: ", 1);
    let log = run.log();
    let url = log.split("page and metrics: ").nth(1).unwrap().lines().next().unwrap();
    browser.open(url);
    let mut times = Vec::new();
    for pull in 0..3 {
        until("it is live", || browser.text("pill") == "live");
        browser.run(WATCH);
        rig.unplug();
        let pulled = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        until("it is said", || browser.run("return window.notedAt").is_u64());
        let said = Duration::from_millis(browser.run("return window.notedAt").as_u64().unwrap());
        times.push(said.saturating_sub(pulled));
        until("it is lost", || browser.text("pill") == "camera lost");
        assert_eq!(browser.run("return document.body.classList.contains('stale')"), true, "greyed");
        assert!(browser.text("overlay").contains("last frame"), "{}", browser.text("overlay"));
        if pull == 0 {
            for (width, scheme) in [(360, "light"), (360, "dark"), (1440, "light"), (1440, "dark")] {
                browser.prefer(scheme);
                browser.screenshot(width, &format!("pulled-{width}-{scheme}"));
            }
            if let Some(violations) = browser.axe() {
                assert!(violations.is_empty(), "{violations:#?}");
            }
        }
        rig.plug();
    }
    // One of three may be held up by whatever else this machine does.
    times.sort_unstable();
    assert!(times[1] <= STALE, "{times:?}");
    run.stop();
}
