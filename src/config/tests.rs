//! The shipped file, every error, and any text at all.

use proptest::prelude::*;

use super::*;
use crate::calibrate::cost::Unit;

fn parse(text: &str) -> Result<Settings> {
    Settings::parse(text, "cfvit.toml")
}

/// The shipped file with every key uncommented: a line that begins with `#` and a key or a section, without a space between.
fn uncommented() -> String {
    let is_key =
        |rest: &str| rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let line = |line: &'static str| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line);
    SHIPPED.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_says_the_defaults_commented_and_uncommented() {
    assert_eq!(parse(SHIPPED).unwrap(), Settings::default());
    let all = uncommented();
    assert_eq!(parse(&all).unwrap(), Settings::default(), "{all}");
    let keys = |text: &str| -> Vec<String> {
        let keys = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
        let mut keys: Vec<String> = keys.map(|(key, _)| key.to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&all), keys(&Settings::default().to_string()), "every key is shown, and no other");
    assert!(SHIPPED.lines().all(|line| line.is_empty() || line.starts_with('#')), "all of it is commented out");
}

#[test]
fn what_a_file_leaves_out_is_the_default() {
    assert_eq!(parse("").unwrap(), Settings::default());
    let settings =
        parse("[gate]\nthreshold = 1\n[[camera]]\nname = \"a\"\nsource = \"/pictures\"\nrepeat = true\n").unwrap();
    assert_eq!(settings.gate.threshold, Some(1.0));
    assert_eq!(settings.cameras.0, [CameraSettings { repeat: true, ..CameraSettings::new("a", "/pictures") }]);
    assert_eq!(
        Settings { gate: GateSettings::default(), cameras: Cameras::default(), ..settings },
        Settings::default()
    );
}

/// Each with the line and what the error must say.
#[test]
fn every_error_has_its_line_its_key_and_what_was_expected_and_found() {
    let camera = "[[camera]]\nname = \"a\"\nsource = \"/x\"\n";
    for (text, line, says) in [
        ("[model]\npath = 3", 2, "model.path: expected a file or folder, or \"bundled\", found 3"),
        ("[model]\npath = \"\"", 2, "found \"\""),
        ("[model]\n\nbackend = \"gpu\"", 3, "expected \"auto\", \"cpu\" or \"tensorrt\", found \"gpu\""),
        ("[model]\nthreads = 0", 2, "model.threads: expected a whole number from 1 to 256, or \"auto\", found 0"),
        ("[model]\nthreads = 2.5", 2, "found 2.5"),
        ("[model]\nprecision = \"f16\"", 2, "model.precision: expected \"auto\", \"fp16\" or \"fp32\", found \"f16\""),
        ("[model]\nbatch = 9", 2, "model.batch: expected a whole number from 1 to 8, found 9"),
        ("[model]\ncrop = 1.1", 2, "model.crop"),
        (
            "[gate]\nthreshold = 60",
            2,
            "gate.threshold: expected a number from 0 to 2 (0.6 is 60 %), or \"model\", found 60",
        ),
        ("[gate]\nthreshold = nan", 2, "found nan"),
        ("[gate]\nfallback = true", 2, "gate.fallback: expected \"static\" or \"none\", found true"),
        (
            "[gate]\ntreshold = 0.5",
            2,
            "unknown field `treshold`, expected one of `threshold`, `fallback`, `certificate`",
        ),
        ("[gates]\nthreshold = 0.5", 1, "unknown field `gates`"),
        ("gate = 3", 1, "expected the section [gate]"),
        ("[gate]\nthreshold = 0.5\nthreshold = 0.6", 3, "duplicate key"),
        ("[gate]\nthreshold = \"0.5\"", 2, "found \"0.5\""),
        ("[gate]\nthreshold = fast", 2, ""),
        ("camera = []", 1, "expected 1 to 16 of them, found 0"),
        ("camera = 1", 1, "expected a sequence"),
        ("[[camera]]\nname = \"a\"", 1, "[[camera]] has no source"),
        ("\n[[camera]]\nsource = \"a\"", 2, "[[camera]] has no name"),
        ("[[camera]]\nname = \"front door\"\nsource = \"/x\"", 2, "camera.name: expected 1 to 32 of the characters"),
        ("[[camera]]\nname = \"0123456789012345678901234567890123\"\nsource = \"/x\"", 2, "camera.name"),
        ("[[camera]]\nname = \"a\"\nsource = 1", 3, "camera.source: expected a device, URI or folder, found 1"),
        (&format!("{camera}{camera}"), 5, "two cameras are called \"a\""),
        (
            "[[camera]]\nname = \"a\"\nsource = \"/dev/video0\"\n[[camera]]\nname = \"b\"\nsource = \"/dev/video0\"",
            6,
            "/dev/video0",
        ),
        (
            &format!("{camera}threshold = -0.1"),
            4,
            "camera.threshold: expected a number from 0 to 2, or \"gate\", found -0.1",
        ),
        (&format!("{camera}fps = 0"), 4, "camera.fps: expected frames per second"),
        (&format!("{camera}repeat = 1"), 4, "camera.repeat: expected true or false, found 1"),
        (&format!("{camera}colour = 1"), 4, "unknown field `colour`"),
        (&camera.repeat(17), 49, "found 17"),
        ("[report]\ninterval_s = 0", 2, "report.interval_s: expected seconds from 0.1 to 3600, found 0"),
        ("[report]\nsmoothing = 1", 2, "report.smoothing: expected a number from 0 (off) to 0.999, found 1"),
        ("[report]\nhysteresis = 2", 2, "report.hysteresis"),
        ("[records]\npath = []", 2, "records.path: expected a file, or \"none\", found []"),
        ("[records]\nmax_mib = 0", 2, "records.max_mib: expected a whole number from 1"),
        ("[records]\nkeep_files = -1", 2, "records.keep_files"),
        ("[power]\nidle_s = 1e9", 2, "power.idle_s: expected seconds from 0 to 600"),
        ("[mqtt]\nbroker = \"mqtt://a\"", 2, "mqtt.broker: expected a host and a port, as \"broker.local:1883\", or"),
        ("[mqtt]\nbroker = \"a:0\"", 2, "found \"a:0\""),
        ("[mqtt]\nbroker = \"a b\"", 2, "found \"a b\""),
        ("[mqtt]\nbroker = 1883", 2, "found 1883"),
        ("[mqtt]\nuser = \"\"", 2, "mqtt.user: expected a name, or \"none\""),
        ("[mqtt]\ndiscovery_prefix = \"a/#\"", 2, "mqtt.discovery_prefix: expected a topic without + and #"),
        ("[mqtt]\ncontrol = 1", 2, "mqtt.control: expected true or false, found 1"),
        ("[mqtt]\nstats_s = 0", 2, "mqtt.stats_s: expected seconds from 1 to 3600, found 0"),
        ("[mqtt]\npassword = \"secret\"", 2, "unknown field `password`"),
        ("[webhook]\nurl = \"https://a\"", 2, "webhook.url: expected a URL that begins with http://"),
        ("[webhook]\nurl = \"http:///etc\"", 2, "found \"http:///etc\""),
        ("[webhook]\nurl = \"http://a:99999/\"", 2, "found \"http://a:99999/\""),
        ("[webhook]\nurl = \"http://[::1]x/\"", 2, "found \"http://[::1]x/\""),
        ("[events]\nsocket = true", 2, "events.socket: expected a file, or \"none\", found true"),
        ("[web]\nenabled = 1", 2, "web.enabled: expected true or false, found 1"),
        (
            "[web]\nlisten = \"8632\"",
            2,
            "web.listen: expected an address and a port, as 127.0.0.1:8632, found \"8632\"",
        ),
        ("[web]\ntoken_file = 1", 2, "web.token_file: expected a file, or \"none\", found 1"),
        ("[web]\nclasses = [\"a\", \"a\"]", 2, "web.classes: expected a list of at most 20 different names"),
        ("[web]\nhosts = [\"a:80\"]", 2, "web.hosts: expected a list of names without ports"),
        ("[web]\nview_token_file = 1", 2, "web.view_token_file: expected a file, or \"none\", found 1"),
        (
            "[collect]\nauto = \"always\"",
            2,
            "collect.auto: expected \"off\", \"disagree\", \"unsure\" or \"random\", found \"always\"",
        ),
        ("[collect]\nband = [0.6, 0.3]", 2, "collect.band: expected two numbers from 0 to 1, the lower one first"),
        ("[collect]\nband = [0.3]", 2, "collect.band"),
        ("[collect]\nprobability = 2", 2, "collect.probability: expected a number from 0 to 1, found 2"),
        ("[collect]\ninterval_s = 0", 2, "collect.interval_s: expected seconds from 0.1 to 86400, found 0"),
        ("[collect]\nfolder = 1", 2, "collect.folder: expected a folder, \"service\" or \"none\", found 1"),
        ("[collect]\nmax_mib = 0", 2, "collect.max_mib: expected a whole number from 1"),
        ("[collect]\nmax_files = 0", 2, "collect.max_files"),
        ("[collect]\nmin_free_mib = -1", 2, "collect.min_free_mib: expected a whole number from 0"),
        (
            "[log]\nlevel = \"loud\"",
            2,
            "log.level: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \"loud\"",
        ),
        ("[log", 1, ""),
        ("[log]\nlevel =", 2, ""),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!((error.kind(), error.exit_code()), (Kind::Config, 2));
        let message = error.to_string();
        assert!(message.starts_with(&format!("cfvit.toml:{line}: ")) && message.contains(says), "{text}\n{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cfvit.toml");
    for prepare in [
        |_: &Path| {},
        |path: &Path| std::fs::write(path, b"\xff\xfe").unwrap(),
        |path: &Path| std::fs::write(path, vec![b'#'; 2 << 20]).unwrap(),
    ] {
        prepare(&path);
        let error = Settings::read(&path).unwrap_err();
        assert!(error.kind() == Kind::Config && error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn what_cannot_be_changed_in_a_running_service_is_named() {
    let old = Settings::default();
    let text = "[model]\nthreads = 1\n[gate]\nthreshold = 0.1\nfallback = \"static\"\n[log]\nlevel = \"debug\"\n[power]\nidle_s = 3";
    assert_eq!(old.fixed_changes(&parse(text).unwrap()), ["[model]", "gate.fallback", "[power]"]);
    assert!(old.fixed_changes(&parse("[report]\nsmoothing = 0").unwrap()).is_empty());
}

#[test]
fn a_broker_is_a_host_and_perhaps_a_port() {
    for (text, host, port) in [
        ("a.local", "a.local", 1883),
        ("a:8883", "a", 8883),
        ("192.168.1.2:1", "192.168.1.2", 1),
        ("[::1]:1884", "[::1]", 1884),
        ("[fe80::1]", "[fe80::1]", 1883),
    ] {
        assert_eq!(Broker::parse(text), Some(Broker { host: host.to_owned(), port }), "{text}");
    }
    for text in ["", ":1883", "a:", "a:x", "a:65536", "::1", "[::1", "a/b", "u@a"] {
        assert_eq!(Broker::parse(text), None, "{text}");
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let camera = (
        "[A-Za-z0-9_-]{1,32}",
        "[^\\x00]{1,20}",
        prop::option::of(0f32..=2.0),
        prop::option::of(0.001f64..=1000.0),
        any::<bool>(),
    )
        .prop_map(|(name, source, threshold, fps, repeat)| CameraSettings {
            name,
            source: source.into(),
            threshold,
            fps,
            repeat,
        });
    let model = (prop::option::of("[^\\x00]{1,20}"), prop::option::of(1usize..=256), prop::option::of(0.01f64..=1.0));
    let rest =
        (0f32..=0.999, 0f32..=1.0, prop::option::of("\\PC{1,20}"), 1u64..=1000, 1u32..=1000, 0f64..=600.0, 0usize..5);
    (model, prop::option::of(0f32..=2.0), any::<bool>(), prop::collection::vec(camera, 1..4), rest).prop_map(
        |(
            (path, threads, crop),
            threshold,
            static_fallback,
            mut cameras,
            (factor, hysteresis, records, max_mib, keep_files, idle_s, level),
        )| {
            for (number, camera) in cameras.iter_mut().enumerate() {
                (camera.name, camera.source) =
                    (format!("c{number}"), format!("{number}{}", camera.source.display()).into());
            }
            Settings {
                model: ModelSettings {
                    path: path.filter(|path| path != "bundled").map(PathBuf::from),
                    threads,
                    batch: threads.map(|threads| 2 + threads % 7),
                    crop,
                    precision: [None, Some(Precision::Fp16), Some(Precision::Fp32)][level % 3],
                    ..ModelSettings::default()
                },
                gate: GateSettings {
                    threshold,
                    static_fallback,
                    certificate: (level == 1).then(|| "/a \"certificate\".toml".into()),
                    allow_uncertified: !static_fallback,
                    budget: (idle_s > 300.0).then_some(Budget { unit: Unit::Mj, limit: idle_s }),
                    budget_first: static_fallback,
                },
                cameras: Cameras(cameras),
                report: ReportSettings { interval_s: 0.5, smoothing: Smoothing { factor, hysteresis } },
                records: RecordsSettings {
                    path: records.filter(|path| path != "none").map(PathBuf::from),
                    max_mib,
                    keep_files,
                },
                power: PowerSettings { idle_s },
                audit: AuditSettings {
                    folder: [StateFolder::Service, StateFolder::Nowhere, StateFolder::At("/a b".into())][level % 3]
                        .clone(),
                    slot_s: threads.map(|threads| threads as f64 / 8.0),
                },
                calibration: CalibrationSettings { auto: static_fallback },
                web: WebSettings {
                    enabled: static_fallback,
                    listen: ([127, 0, 0, 1], keep_files as u16).into(),
                    token_file: None,
                    view_token_file: (level == 2).then(|| "/a \"token\"".into()),
                    hosts: vec!["[fe80::1]".to_owned(), "door.local".to_owned()],
                    classes: vec!["chain saw".to_owned(), "<b>\"é".to_owned()],
                },
                mqtt: MqttSettings {
                    broker: static_fallback
                        .then(|| Broker { host: "[fe80::1]".to_owned(), port: 1 + keep_files as u16 }),
                    user: static_fallback.then(|| "a \"user\"".to_owned()),
                    password_file: static_fallback.then(|| "/a b".into()),
                    discovery_prefix: (level > 1).then(|| "ha/discovery".to_owned()),
                    control: static_fallback,
                    decisions: !static_fallback,
                    images: static_fallback,
                    heartbeat_s: 1.0 + idle_s,
                    stats_s: 2.5,
                },
                webhook: WebhookSettings {
                    url: static_fallback.then(|| "http://[::1]:80/a?b=c".to_owned()),
                    secret_file: static_fallback.then(|| "/s".into()),
                },
                events: EventsSettings { socket: static_fallback.then(|| "/run/a.sock".into()) },
                collect: CollectSettings {
                    auto: Auto::WORDS[level % 4].1,
                    band: (f64::from(hysteresis) / 2.0, f64::from(hysteresis)),
                    probability: f64::from(factor),
                    interval_s: 0.1 + idle_s,
                    folder: [StateFolder::Service, StateFolder::Nowhere, StateFolder::At("/b".into())][level % 3]
                        .clone(),
                    max_mib,
                    max_files: max_mib,
                    min_free_mib: u64::from(keep_files),
                },
                log: LogSettings { level: LEVELS[level].1 },
            }
        },
    )
}

proptest! {
    #[test]
    fn settings_that_are_shown_read_as_the_same(settings in any_settings()) {
        let text = settings.to_string();
        prop_assert_eq!(parse(&text).map_err(|error| format!("{error}\n{text}")).unwrap(), settings);
    }

    #[test]
    fn any_text_is_settings_or_an_error_with_a_line(text in "(\\[+(model|gate|camera|report|log)\\]+\n)?([a-z_]{1,12} ?= ?\\PC{0,12}\n){0,4}\\PC{0,20}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().starts_with("cfvit.toml:"), "{}", error);
        }
    }

    #[test]
    fn a_shipped_file_with_damage_never_panics(at in 0usize..4000, byte in any::<char>()) {
        let mut text: Vec<char> = uncommented().chars().collect();
        let at = at % text.len();
        text[at] = byte;
        let _ = parse(&text.into_iter().collect::<String>());
    }
}
