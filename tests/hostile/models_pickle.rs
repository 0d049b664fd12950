//! Pickles that call what they must not, break the machine's rules, or try to use up memory.

use super::models::List;
use super::torch::{Checkpoint, Claim, Program};

/// Names that a pickle must not reach; each is refused by name, however it is imported.
pub fn refused(list: &mut List) {
    const NAMES: [(&str, &str, &str); 30] = [
        ("os", "system", "`os.system`"),
        ("posix", "system", "`posix.system`"),
        ("nt", "system", "`nt.system`"),
        ("os", "popen", "`os.popen`"),
        ("os", "execv", "`os.execv`"),
        ("subprocess", "Popen", "`subprocess.Popen`"),
        ("subprocess", "check_output", "`subprocess.check_output`"),
        ("builtins", "eval", "`builtins.eval`"),
        ("builtins", "exec", "`builtins.exec`"),
        ("builtins", "compile", "`builtins.compile`"),
        ("builtins", "open", "`builtins.open`"),
        ("builtins", "getattr", "`builtins.getattr`"),
        ("builtins", "__import__", "`builtins.__import__`"),
        ("__builtin__", "eval", "`__builtin__.eval`"),
        ("importlib", "import_module", "`importlib.import_module`"),
        ("runpy", "run_path", "`runpy.run_path`"),
        ("pickle", "loads", "`pickle.loads`"),
        ("shutil", "rmtree", "`shutil.rmtree`"),
        ("socket", "socket", "`socket.socket`"),
        ("ctypes", "CDLL", "`ctypes.CDLL`"),
        ("operator", "attrgetter", "`operator.attrgetter`"),
        ("functools", "partial", "`functools.partial`"),
        ("sys", "exit", "`sys.exit`"),
        ("numpy", "load", "`numpy.load`"),
        ("torch", "load", "`torch.load`"),
        ("torch.hub", "load", "`torch.hub.load`"),
        ("torch.storage", "_load_from_bytes", "`torch.storage._load_from_bytes`"),
        ("collections", "namedtuple", "`collections.namedtuple`"),
        ("deit.models", "CFVisionTransformer", "`deit.models.CFVisionTransformer`"),
        ("os\u{1b}[2J", "system", "`os\\u{1b}[2J.system`"),
    ];
    for (i, (module, name, says)) in NAMES.into_iter().enumerate() {
        let call = |program: Program| program.raw(b"(").text("touch /tmp/pwned").raw(b"tR.").0;
        list.pickle(format!("refused-{i}"), call(Program::new().global(module, name)), says);
        if i < 10 {
            let stacked = Program(vec![0x80, 4]).text(module).text(name).raw(&[0x93]);
            list.pickle(format!("refused-stack-global-{i}"), call(stacked), says);
            let hidden = Program::new().raw(b"}").text("model").global(module, name).raw(b")\x81}bs.").0;
            list.pickle(format!("refused-new-object-{i}"), hidden, says);
        }
    }
    list.pickle("refused-instance", Program::new().raw(b"(ios\nsystem\n.").0, "`os.system`");
    list.pickle("refused-module-with-dots", Program::new().global("torch._utils", "os.system").stop(), "os.system`");
}

/// Programs that the machine must reject.
pub fn programs(list: &mut List) {
    for opcode in [
        0x00, 0x01, b'%', b'A', b'P', b'I', b'L', b'F', b'S', b'V', b'g', b'p', b'o', 0x7f, 0x82, 0x83, 0x84, 0x97,
        0x98, 0xff,
    ] {
        list.pickle(format!("opcode-{opcode:02x}"), vec![0x80, 2, opcode], "which torch.save does not write");
    }
    let mut program =
        |name: &str, code: &[u8], says| list.pickle(format!("program-{name}"), Program::new().raw(code).0, says);
    program("empty", b"", "ends in the middle");
    program("stop-alone", b".", "stack is empty");
    program("root-number", b"K\x01.", "not a dict");
    program("root-list", b"].", "not a dict");
    program("root-empty-dict", b"}.", "no state dict");
    program("root-other-keys", b"}X\x03\0\0\0fooNs.", "found `foo`");
    program("state-without-tensors", b"}X\x05\0\0\0model}s.", "no state dict");
    program("state-a-list", b"}X\x05\0\0\0model]s.", "no state dict");
    program("cyclic-list", b"]q\0h\0a.", "not a dict");
    program("cyclic-dict", b"}q\0X\x05\0\0\0modelh\0s.", "no state dict");
    program("cyclic-tuple", b"]q\0h\0\x85q\x01a0h\x01.", "not a dict");
    program("cyclic-state", b"}q\0X\x05\0\0\0model}q\x01X\x01\0\0\0ah\x01ss.", "no state dict");
    program("protocol-0", b"\x80\0N.", "protocol 0");
    program("protocol-6", b"\x80\x06N.", "protocol 6");
    program("memo-never-set", b"h\x07.", "memo 7 was never set");
    program("memo-of-nothing", b"q\0.", "stack is empty");
    program("tuple-without-mark", b"Nt.", "needs a mark");
    program("tuple3-of-two", b"NN\x87.", "needs 3 values");
    program("pop-below-mark", b"N(0N(\x85.", "needs 1 values");
    program("append-to-number", b"K\x01Na.", "cannot hold them");
    program("item-to-list", b"]NNs.", "cannot hold them");
    program("items-odd", b"}(NNNu.", "a key without a value");
    program("dict-odd", b"(NNNd.", "a key without a value");
    program("call-a-number", b"K\x01)R.", "not callable");
    program("call-with-a-list", b"ccollections\nOrderedDict\n]R.", "arguments that are not a tuple");
    program("build-a-number", b"K\x01}b.", "attributes of something that has none");
    program("ordered-dict-of-numbers", b"ccollections\nOrderedDict\n](K\x01K\x02e\x85R.", "else than pairs");
    program("ordered-dict-of-a-dict", b"ccollections\nOrderedDict\n}\x85R.", "else than a list");
    program("parameter-of-a-number", b"ctorch._utils\n_rebuild_parameter\nK\x01\x85R.", "else than a tensor");
    program("global-of-numbers", b"K\x01K\x02\x93.", "not a string");
    program("global-without-end", &[b'c'; 4000], "without an end");
    program("global-not-utf8", b"c\xff\xff\n\xff\n", "not UTF-8");
    program("string-not-utf8", b"X\x02\0\0\0\xff\xff.", "not UTF-8");
    program("string-too-long", b"X\xff\xff\xff\x7fabc.", "ends in the middle");
    program("string-8-bytes-too-long", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "ends in the middle");
    program("long-too-long", b"\x8b\xff\xff\xff\xff\x01.", "ends in the middle");
    program("bytes-too-long", b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "ends in the middle");
    program("frame-cut", b"\x95\x01\0.", "ends in the middle");
    program("persistent-number", b"K\x01Q.", "persistent id that is not a tuple");
    program("persistent-short", b"N\x85Q.", "1 parts, expected 5");
    program("persistent-nothing", b"(NNNNNtQ.", "a persistent id that is not");
    program("persistent-other", b"(X\x06\0\0\0modulectorch\nFloatStorage\nX\x01\0\0\x000NK\x01tQ.", "not a storage");
    program("tensor-of-nothing", b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "from 0 arguments");
    program(
        "tensor-of-numbers",
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x01K\x01K\x01K\x01K\x01tR.",
        "not a storage",
    );
    program(
        "tensor-v3-without-format",
        b"ctorch._utils\n_rebuild_tensor_v3\n(K\x01K\x01K\x01K\x01K\x01K\x01K\x01tR.",
        "number format",
    );
    let claim = Claim { class: "FloatStorage", key: "0".into(), numel: 4, offset: 0, shape: vec![4], stride: vec![1] };
    let start = Program::new().global("torch._utils", "_rebuild_tensor").raw(b"(").storage(&claim);
    list.pickle(
        "program-tensor-of-floats",
        start.clone().float(0.5).ints(&[4]).ints(&[1]).raw(b"tR.").0,
        "not an integer",
    );
    list.pickle(
        "program-tensor-shape-a-number",
        start.int(0).int(4).ints(&[1]).raw(b"tR.").0,
        "shape that is not a tuple",
    );
}

/// Programs that would use up memory, time or the stack.
pub fn limits(list: &mut List) {
    const MANY: usize = 400_001;
    let mut program =
        |name: &str, code: Vec<u8>, says| list.pickle(format!("limit-{name}"), Program::new().raw(&code).0, says);
    program("marks", vec![b'('; 100_000], "containers nested");
    program("values", b"N".repeat(MANY), "values");
    program("stack", [b"Nq\0".to_vec(), b"h\0".repeat(MANY)].concat(), "on the stack");
    program("tuples", [b"N".to_vec(), b"\x85".repeat(MANY)].concat(), "400000");
    program("nested-lists", [b"]".to_vec(), b"]\x85".repeat(150_000), b".".to_vec()].concat(), "not a dict");
    let memo = (0..MANY as u32).flat_map(|i| [b'r'].into_iter().chain(i.to_le_bytes()));
    program("memo", b"N".iter().copied().chain(memo).collect(), "memo");
    // A list of 100,000 items is made once and copied again and again by way of the memo.
    let list_of_pairs =
        [b"ccollections\nOrderedDict\nq\x01](NN\x86q\0".to_vec(), b"h\0".repeat(100_000), b"e\x85q\x02".to_vec()]
            .concat();
    program("copies", [list_of_pairs, b"h\x01h\x02R".repeat(1000)].concat(), "elements");
    // Each list holds the one before it twice: 2^1000 items when followed.
    program("doubling", [b"]q\0".to_vec(), b"](h\0h\0eq\0".repeat(1000), b".".to_vec()].concat(), "not a dict");
    program("too-long", vec![b'N'; (4 << 20) + 1], "at most 4194304");
    let mut checkpoint = Checkpoint::deit();
    for i in 0..17_000 {
        let (_, claim) = checkpoint.tensors[0].clone();
        checkpoint.tensors.push((format!("extra.{i}"), claim));
    }
    list.pth("limit-tensors", checkpoint.bytes(), "400000");
}
