use super::*;
use proptest::prelude::*;

fn header(slot_s: f64) -> Header {
    let keys = Keys {
        engine: "CPU".into(),
        engine_sha256: "e".into(),
        preprocess_sha256: "p".into(),
        power_mode: "none".into(),
    };
    Header::new("door", slot_s, 1000, &keys)
}

fn record(i: u32) -> Record {
    Record { time_ms: 1_795_000_000_000 + u64::from(i), confidence: 0.5 + i as f32 / 1000.0, coarse: i, fine: 999 - i }
}

#[test]
fn an_audit_goes_on_after_a_restart_and_after_a_record_that_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit-door.log");
    Log::open(&path, &header(10.0)).unwrap().append(&[record(1), record(2)]).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in 1..RECORD {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        assert_eq!(read(&path).unwrap().records, [record(1)]);
        Log::open(&path, &header(10.0)).unwrap().append(&[record(3)]).unwrap();
        let audit = read(&path).unwrap();
        assert_eq!((audit.records, audit.damaged, audit.header), (vec![record(1), record(3)], 0, header(10.0)));
    }
    // Another number of threads: the same answers.
    let threads = Header { engine: "CPU, 4 threads".into(), ..header(10.0) };
    Log::open(&path, &threads).unwrap().append(&[record(4)]).unwrap();
    let audit = read(&path).unwrap();
    assert_eq!((audit.records.len(), audit.header), (3, header(10.0)));
    // Another slot length: the old records are kept apart.
    Log::open(&path, &header(5.0)).unwrap().append(&[record(7)]).unwrap();
    assert_eq!(read(&path).unwrap().records, [record(7)]);
    assert_eq!(read(&folder.path().join("audit-door.log.old")).unwrap().records, [record(1), record(3), record(4)]);
    // A first line that was cut off is no header: put aside too.
    std::fs::write(&path, b"cfvit-audit 1 {\"cam").unwrap();
    Log::open(&path, &header(5.0)).unwrap();
    assert_eq!(read(&path).unwrap().records, []);
    assert!(Log::open(&folder.path().join("none/a.log"), &header(5.0)).is_err());
}

#[test]
fn foreign_files_and_impossible_records_are_no_audit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let long = "x".repeat(10_000);
    let first = first_line(&header(10.0)).unwrap();
    for (bytes, expected) in [
        (&b""[..], "no audit"),
        (b"\x89PNG", "no audit"),
        (b"cfvit-audit 2 {}\n", "no audit"),
        (b"cfvit-audit 1 {}\n", "damaged"),
        (first.replace("10.0", "-1.0").as_bytes(), "damaged"),
        (first.replace("door", "do\\u001bor").as_bytes(), "control"),
        (first.trim_end().as_bytes(), "no audit"),
        (long.as_bytes(), "no audit"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains(expected) && error.to_string().contains("a.log"), "{error}");
        assert_eq!(error.kind(), Kind::Model);
    }
    assert!(read(folder.path()).is_err() && read(&folder.path().join("none")).is_err());
    let impossible = [
        Record { confidence: 1.5, ..record(1) },
        Record { confidence: -0.1, ..record(1) },
        Record { coarse: 1000, ..record(1) },
        Record { confidence: f32::NAN, ..record(1) },
    ];
    std::fs::remove_file(&path).unwrap();
    Log::open(&path, &header(10.0)).unwrap().append(&impossible).unwrap();
    let audit = read(&path).unwrap();
    assert_eq!((audit.records.len(), audit.damaged), (1, 3), "no confidence at all is possible");
}

#[test]
fn another_engine_or_preprocessing_is_named() {
    let header = header(10.0);
    let keys = |engine: &str, sum: &str, preprocess: &str| Keys {
        engine: engine.into(),
        engine_sha256: sum.into(),
        preprocess_sha256: preprocess.into(),
        power_mode: "MAXN".into(),
    };
    assert!(header.check(&keys("CPU", "e", "p")).is_ok(), "the power mode changes no answer");
    for (keys, expected) in [
        (keys("GPU", "x", "p"), "the engine CPU, here is GPU"),
        (keys("CPU", "x", "p"), "other weights"),
        (keys("CPU", "e", "x"), "another crop"),
    ] {
        let error = header.check(&keys).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::Mismatch, 5));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

proptest! {
    #[test]
    fn records_survive_their_bytes(time_ms in 0u64..1 << 48, confidence in any::<f32>(), coarse in 0u32..1 << 24, fine in 0u32..1 << 24) {
        let record = Record { time_ms, confidence, coarse, fine };
        let back = Record::from_bytes(&record.to_bytes());
        prop_assert_eq!((back.time_ms, back.coarse, back.fine), (time_ms, coarse, fine));
        prop_assert_eq!(back.confidence.to_bits(), confidence.to_bits());
    }

    #[test]
    fn no_file_makes_the_reader_panic(garbage in prop::collection::vec(any::<u8>(), 0..200), with_header in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut bytes = if with_header { first_line(&header(10.0)).unwrap().into_bytes() } else { Vec::new() };
        bytes.extend(garbage);
        std::fs::write(&path, bytes).unwrap();
        let _ = read(&path);
    }
}
