//! The machine on programs as Python writes them, and on noise. Whole files, hostile ones too: `tests/hostile`.

use proptest::prelude::*;

use super::*;

fn read(code: &[u8]) -> Pickle {
    Pickle::read(code.to_vec()).unwrap()
}

fn numbers(pickle: &Pickle, id: Id) -> Vec<f64> {
    pickle.as_sequence(id).unwrap().iter().map(|&id| pickle.as_number(id).unwrap()).collect()
}

/// `pickle.dumps({"a": [1, -2, 0.5], "b": (2**40, 300)}, 2)`.
const PROTOCOL_2: &[u8] = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffG?\xe0\x00\x00\x00\x00\x00\x00eX\x01\x00\x00\x00bq\x03\x8a\x06\x00\x00\x00\x00\x00\x01M,\x01\x86q\x04u.";
/// The same with protocol 4.
const PROTOCOL_4: &[u8] = b"\x80\x04\x950\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffG?\xe0\x00\x00\x00\x00\x00\x00e\x8c\x01b\x94\x8a\x06\x00\x00\x00\x00\x00\x01M,\x01\x86\x94u.";

#[test]
fn plain_containers_of_both_protocols() {
    for code in [PROTOCOL_2, PROTOCOL_4] {
        let pickle = read(code);
        let (a, b) = (pickle.get(pickle.root(), "a").unwrap(), pickle.get(pickle.root(), "b").unwrap());
        assert_eq!(numbers(&pickle, a), [1.0, -2.0, 0.5]);
        assert_eq!(numbers(&pickle, b), [(1i64 << 40) as f64, 300.0]);
        assert_eq!(pickle.get(pickle.root(), "c"), None);
    }
}

/// `pickle.dumps(argparse.Namespace(lr=0.1, out=pathlib.PosixPath("x")), 2)` under the key `args`.
#[test]
fn the_arguments_of_a_training_run_are_inert() {
    let code = b"\x80\x02}X\x04\0\0\0argscargparse\nNamespace\nq\0)\x81q\x01}q\x02(X\x02\0\0\0lrG?\xb9\x99\x99\x99\x99\x99\x9aX\x03\0\0\0outcpathlib\nPosixPath\nq\x03X\x01\0\0\0x\x85Rubs.";
    let pickle = read(code);
    let args = pickle.get(pickle.root(), "args").unwrap();
    assert!(matches!(pickle.value(args), Value::Inert), "{:?}", pickle.value(args));
}

#[test]
fn a_later_key_wins_and_integers_of_any_length_are_read() {
    let pickle = read(b"\x80\x02}(X\x01\0\0\0aK\x01X\x01\0\0\0a\x8a\x01\xffX\x01\0\0\0b\x8a\0X\x01\0\0\0c\x8a\x09\0\0\0\0\0\0\0\0\x01u.");
    let value = |key| pickle.as_number(pickle.get(pickle.root(), key).unwrap());
    assert_eq!((value("a"), value("b"), value("c")), (Some(-1.0), Some(0.0), None));
}

proptest! {
    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Pickle::read(noise);
    }

    /// Noise made of opcodes that exist goes deeper than bytes at random.
    #[test]
    fn programs_of_real_opcodes_never_panic(code in prop::collection::vec(prop::sample::select(
        b"(.012NK\x01qhrja]})tdlesubRQ\x85\x86\x87\x81\x88\x8f\x90\x91\x92\x94G\x8c\x02ccollections\nOrderedDict\n".to_vec()
    ), 0..200)) {
        let _ = Pickle::read(code);
    }
}
