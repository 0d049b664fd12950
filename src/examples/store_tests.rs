//! The folder: caps, moves, and what is left when something fails.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_files: 3, min_free_bytes: 0 };

fn name(seq: u64) -> Name {
    Name { unix_ms: 1_700_000_000_000 + seq, camera: "door".into(), seq }
}

fn store(root: &Path, limits: Limits) -> Store {
    Store::open(root.to_owned(), vec!["n1".into(), "n2".into()], limits).unwrap()
}

fn save(store: &mut Store, seq: u64, bytes: usize) -> std::result::Result<(), String> {
    store.save(&name(seq), &vec![7; bytes], &json!({ "v": 1, "seq": seq })).unwrap()
}

#[test]
fn an_example_goes_to_the_inbox_then_to_its_class_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("examples");
    let mut store = store(&root, LIMITS);
    assert_eq!(entries(&root).unwrap(), []);
    save(&mut store, 1, 10).unwrap();
    assert_eq!(entries(&root).unwrap()[0].whereabouts, Whereabouts::Inbox);
    let split = name(1).split();
    let labelled = Whereabouts::Class(split, "n2".into());
    assert_eq!(store.label(&name(1), Some(1), "page").unwrap(), Some(labelled.clone()));
    let found = entries(&root).unwrap();
    assert_eq!((found.len(), &found[0].whereabouts), (1, &labelled));
    let side_car = read_side_car(&found[0].path.with_extension("json"));
    assert_eq!(
        (&side_car["class"], &side_car["labeller"], &side_car["seq"]),
        (&json!("n2"), &json!("page"), &json!(1))
    );
    assert_eq!(store.label(&name(1), None, "page").unwrap(), Some(Whereabouts::Inbox));
    assert!(store.label(&name(1), Some(2), "page").unwrap_err().to_string().contains("no class 2"));
    assert_eq!(store.label(&name(9), Some(0), "page").unwrap(), None);
    let (picture, side_car) = store.discard(&name(1)).unwrap().unwrap();
    assert_eq!((picture, &side_car["class"]), (vec![7; 10], &Value::Null));
    assert_eq!((store.usage(), entries(&root).unwrap().len()), (Usage::default(), 0));
    // Nothing else is left, in any folder.
    let left = walkdir::WalkDir::new(&root).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    assert_eq!(left.count(), 0);
}

#[test]
fn full_is_full_until_somebody_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path(), LIMITS);
    for seq in 0..3 {
        save(&mut store, seq, 10).unwrap();
    }
    assert!(save(&mut store, 3, 10).unwrap_err().contains("max_files"));
    // Another program takes one away.
    remove(&entries(dir.path()).unwrap()[0]).unwrap();
    save(&mut store, 3, 10).unwrap();
    let big = Limits { max_files: 100, ..LIMITS };
    let mut store = self::store(dir.path(), big);
    assert_eq!(store.usage().files, 3);
    assert!(save(&mut store, 4, 2 << 20).unwrap_err().contains("max_mib"));
    let none_free = Limits { max_files: 100, min_free_bytes: u64::MAX / 2, ..LIMITS };
    assert!(save(&mut self::store(dir.path(), none_free), 4, 10).unwrap_err().contains("min_free_mib"));
}

#[test]
fn what_cannot_be_written_leaves_nothing_and_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("examples");
    std::fs::write(&root, "a file in the way").unwrap();
    let mut store = Store::open(dir.path().join("other"), Vec::new(), LIMITS).unwrap();
    store.root = root;
    assert!(store.save(&name(1), b"x", &json!({})).is_err());
    // A folder in the picture's place: the side-car does not stay alone.
    let mut store = self::store(&dir.path().join("x"), LIMITS);
    let folder = store.root().join(INBOX).join(format!("{}.jpg", name(1)));
    std::fs::create_dir_all(&folder).unwrap();
    assert!(store.save(&name(1), b"x", &json!({})).is_err());
    let names: Vec<_> = std::fs::read_dir(store.root().join(INBOX)).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, [folder.file_name().unwrap()]);
}

#[test]
fn other_files_are_nobodys_examples_and_old_halves_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path(), LIMITS);
    save(&mut store, 1, 10).unwrap();
    let inbox = dir.path().join(INBOX);
    for other in ["notes.txt", "cat.jpg", ".hidden.jpg"] {
        std::fs::write(inbox.join(other), "x").unwrap();
    }
    let (old, new) = (inbox.join(".a.jpg.1.tmp"), inbox.join(".b.jpg.1.tmp"));
    std::fs::write(&new, "half").unwrap();
    let file = std::fs::File::create(&old).unwrap();
    file.set_modified(std::time::SystemTime::now() - 2 * HALF_WRITTEN).unwrap();
    store.sweep();
    assert_eq!((old.exists(), new.exists(), entries(dir.path()).unwrap().len()), (false, true, 1));
    assert!(inbox.join("notes.txt").exists());
}

#[test]
fn a_damaged_side_car_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    for damaged in [&b"{"[..], b"[1]", b"\xff\xfe", b""] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(read_side_car(&path), json!({ "v": 1 }));
    }
}

proptest! {
    #[test]
    fn caps_hold_whatever_comes(files in 0u64..20, bytes in 0u64..1000, free in 0u64..1000, more in 0u64..1000, max_files in 1u64..20, max_bytes in 1u64..1000, min_free_bytes in 0u64..1000) {
        let limits = Limits { max_bytes, max_files, min_free_bytes };
        let goes_in = limits.refuse(Usage { bytes, files }, free, more).is_none();
        prop_assert_eq!(goes_in, files < max_files && bytes + more <= max_bytes && free >= min_free_bytes + more);
    }

    #[test]
    fn no_number_is_too_large(bytes: u64, files: u64, free: u64, more: u64) {
        let limits = Limits { max_bytes: u64::MAX, max_files: u64::MAX, min_free_bytes: u64::MAX };
        // Any answer, and no overflow.
        let _ = limits.refuse(Usage { bytes, files }, free, more);
    }
}
