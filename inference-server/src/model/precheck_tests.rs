//! Models built by hand, one per thing that must be refused, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::model::declared::Dimension;

/// Writes protobuf: just enough for crafted models.
#[derive(Default, Clone)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    fn message(self, field: u64, value: Message) -> Self {
        self.bytes(field, value.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

fn new() -> Message {
    Message::default()
}

fn node(domain: &str, name: &str) -> Message {
    new().bytes(1, "x").bytes(2, "y").bytes(4, name).bytes(7, domain)
}

/// A model around a graph's message.
fn model(graph: Message) -> Message {
    let opset = new().bytes(1, "").number(2, 17);
    new().number(1, 8).message(7, graph).message(8, opset)
}

fn tensor(dims: &[u64], element: u64) -> Message {
    let start = new().number(2, element).bytes(8, "w");
    dims.iter().fold(start, |message, size| message.number(1, *size))
}

fn function(name: &str, calls: &[&str]) -> Message {
    let start = new().bytes(1, name).bytes(10, "local");
    calls
        .iter()
        .fold(start, |message, called| message.message(7, node("local", called)))
}

fn refusal(model: &Message) -> (Reason, String) {
    let error = check(&model.0, Limits::default()).unwrap_err();
    (error.reason, error.message)
}

fn assert_refused(model: &Message, reason: Reason, what: &str) {
    let (given, message) = refusal(model);
    assert!(given == reason && message.contains(what), "{given:?}: {message}");
}

#[test]
fn the_outline_of_real_models() {
    let read = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/models/{name}.onnx"));
        std::fs::read(path).unwrap()
    };
    let bytes = read("affine");
    let outline = check(&bytes, Limits::default()).unwrap();
    assert_eq!((outline.ir_version, outline.producer), (8, &b"tidewright-tests"[..]));
    assert_eq!(outline.opsets, BTreeMap::from([("", 17)]));
    assert_eq!(outline.uses, Uses::from([(("", "Gemm", ""), 1)]));
    assert_eq!((outline.initializers, outline.initializer_bytes), (2, (12 + 3) * 4));
    assert_eq!(outline.inputs.len(), 1);
    assert_eq!(outline.inputs[0].name, b"x");
    assert_eq!(
        outline.inputs[0].shape,
        Some(vec![Dimension::Free(b"N"), Dimension::Size(4)])
    );
    let bytes = read("slow");
    let outline = check(&bytes, Limits::default()).unwrap();
    assert_eq!(outline.subgraph_depth, 1);
    assert_eq!(outline.uses[&("", "MatMul", "")], 1);
    for name in ["echo", "fixed", "tokens", "picky"] {
        check(&read(name), Limits::default()).unwrap();
    }
}

#[test]
fn what_is_no_model() {
    assert_refused(
        &Message(b"no model".to_vec()),
        Reason::ModelLoadFailed,
        "not an ONNX model",
    );
    assert_refused(&new(), Reason::ModelLoadFailed, "no graph");
    assert_refused(
        &new().number(1, 8).message(7, new()),
        Reason::ModelLoadFailed,
        "imports no operator set",
    );
    let twice = model(new()).message(7, new());
    assert_refused(&twice, Reason::ModelLoadFailed, "two main graphs");
    let version = new()
        .number(1, 8)
        .message(7, new())
        .message(8, new().number(2, u64::MAX));
    assert_refused(&version, Reason::ModelLoadFailed, "no usable version");
    assert_refused(
        &model(new().message(1, new().bytes(4, [0xff, 0xfe]))),
        Reason::ModelLoadFailed,
        "not UTF-8",
    );
}

#[test]
fn limits_on_size_and_depth() {
    let small = Limits {
        file_bytes: 4,
        ..Limits::default()
    };
    assert_eq!(check(&model(new()).0, small).unwrap_err().reason, Reason::ModelTooLarge);

    let nested = |levels: usize| {
        let graph = (0..levels).fold(new(), |inner, _| {
            new().message(
                1,
                node("", "If").message(5, new().bytes(1, "then_branch").message(6, inner)),
            )
        });
        model(graph)
    };
    assert_eq!(check(&nested(24).0, Limits::default()).unwrap().subgraph_depth, 24);
    assert_refused(&nested(25), Reason::ModelTooLarge, "nested more than 24 deep");
    assert_refused(&nested(5_000), Reason::ModelTooLarge, "nested more than 24 deep");

    let few = Limits {
        nodes: 2,
        ..Limits::default()
    };
    let graph = (0..3).fold(new(), |graph, _| graph.message(1, node("", "Identity")));
    assert!(
        check(&model(graph).0, few)
            .unwrap_err()
            .message
            .contains("more than 2 nodes")
    );
    let tensors = (0..3).fold(new(), |graph, _| graph.message(5, tensor(&[0], 1)));
    assert!(
        check(&model(tensors).0, few)
            .unwrap_err()
            .message
            .contains("more than 2 tensors")
    );
}

#[test]
fn local_functions_neither_recurse_nor_explode() {
    let with = |functions: Vec<Message>| {
        let graph = new().message(1, node("local", "f0"));
        functions
            .into_iter()
            .fold(model(graph), |model, function| model.message(25, function))
    };
    // A chain in which each calls the next `times` times, and the last has one node.
    let chain = |length: usize, times: usize| {
        with(
            (0..length)
                .map(|index| {
                    let next = format!("f{}", index + 1);
                    let name = format!("f{index}");
                    if index + 1 < length {
                        function(&name, &vec![next.as_str(); times])
                    } else {
                        function(&name, &[]).message(7, node("", "Identity"))
                    }
                })
                .collect(),
        )
    };
    assert!(check(&chain(100, 1).0, Limits::default()).is_ok());
    assert_refused(&chain(101, 1), Reason::ModelTooLarge, "more than 100 deep");
    assert_refused(&chain(3_000, 1), Reason::ModelTooLarge, "more than 100 deep");
    assert!(check(&chain(19, 2).0, Limits::default()).is_ok());
    assert_refused(&chain(20, 2), Reason::ModelTooLarge, "inlined");
    assert_refused(&chain(100, 2), Reason::ModelTooLarge, "inlined");
    assert_refused(
        &with(vec![function("f0", &["f1"]), function("f1", &["f0"])]),
        Reason::ModelLoadFailed,
        "calls itself",
    );
    assert_refused(
        &with(vec![function("f0", &[]), function("f0", &[])]),
        Reason::ModelLoadFailed,
        "defined twice",
    );
}

#[test]
fn operators_of_foreign_domains_are_named() {
    let graph = new()
        .message(1, node("ai.onnx", "Relu"))
        .message(1, node("com.microsoft", "Gelu"))
        .message(1, node("acme.evil", "Exec"));
    assert_refused(&model(graph), Reason::UnsupportedOperator, "\"Exec\" of \"acme.evil\"");
}

#[test]
fn shapes_promise_no_more_than_the_file_holds() {
    let initializer = |tensor| model(new().message(5, tensor));
    let raw = |dims: &[u64], element, bytes: usize| initializer(tensor(dims, element).bytes(9, vec![0; bytes]));
    for (dims, element, bytes) in [
        (&[2u64, 3][..], 1, 24),
        (&[], 7, 8),
        (&[0, 1 << 40], 1, 0),
        (&[3], 22, 2),
        (&[5], 25, 2),
    ] {
        assert!(
            check(&raw(dims, element, bytes).0, Limits::default()).is_ok(),
            "{dims:?} {element}"
        );
    }
    assert_refused(
        &raw(&[2, 3], 1, 23),
        Reason::ModelLoadFailed,
        "declares 6 elements of 24 bytes",
    );
    assert_refused(&raw(&[1 << 40], 1, 4), Reason::ModelLoadFailed, "declares");
    // -1, as protobuf writes it.
    assert_refused(
        &raw(&[u64::MAX], 2, 4),
        Reason::ModelTooLarge,
        "more elements than can be counted",
    );
    assert_refused(
        &raw(&[1 << 40, 1 << 40], 1, 4),
        Reason::ModelTooLarge,
        "more elements than can be counted",
    );
    assert_refused(&raw(&[1; 65], 1, 4), Reason::ModelLoadFailed, "more than 64 dimensions");
    assert_refused(&raw(&[1], 99, 4), Reason::ModelLoadFailed, "unknown element type 99");
    // Typed fields: two floats packed, one written singly, a million promised.
    let typed = tensor(&[2], 1).bytes(4, [0; 8]);
    assert!(check(&initializer(typed).0, Limits::default()).is_ok());
    assert_refused(
        &initializer(tensor(&[1_000_000], 6).number(5, 1)),
        Reason::ModelLoadFailed,
        "holds 1 values",
    );
    let sparse = |size: u64| {
        let values = tensor(&[1], 1).bytes(9, [0; 4]);
        model(new().message(15, new().message(1, values).number(3, size)))
    };
    assert!(check(&sparse(1000).0, Limits::default()).is_ok());
    assert_refused(&sparse(1 << 40), Reason::ModelTooLarge, "sparse");
    // An input of a terabyte would be allocated by the warm-up.
    let shape = new()
        .message(1, new().bytes(2, "N"))
        .message(1, new().number(1, 1 << 40));
    let kind = new().message(1, new().number(1, 1).message(2, shape));
    let graph = new().message(11, new().bytes(1, "x").message(2, kind));
    assert_refused(&model(graph), Reason::ModelTooLarge, "\"x\" is declared with more than");
}

#[test]
fn references_to_other_files_are_listed_and_must_be_whole() {
    let entry = |key: &str, value: &str| new().bytes(1, key).bytes(2, value);
    let external = |entries: Vec<Message>| {
        let start = tensor(&[2, 2], 1).number(14, 1);
        let tensor = entries
            .into_iter()
            .fold(start, |tensor, entry| tensor.message(13, entry));
        // Inside a node: not only initializers may do it.
        model(new().message(1, node("", "Constant").message(5, new().message(5, tensor))))
    };
    let given = external(vec![
        entry("location", "w.bin"),
        entry("offset", "64"),
        entry("length", "16"),
    ]);
    let outline = check(&given.0, Limits::default()).unwrap();
    assert_eq!(outline.external.len(), 1);
    let found = &outline.external[0];
    assert_eq!((found.location.as_str(), found.offset, found.bytes), ("w.bin", 64, 16));
    for (entries, what) in [
        (vec![], "location is not given"),
        (vec![entry("location", "a"), entry("location", "b")], "given twice"),
        (
            vec![entry("location", "a"), entry("offset", "-1")],
            "not a number of bytes",
        ),
        (
            vec![entry("location", "a"), entry("length", "17")],
            "17 bytes are given, its shape needs 16",
        ),
    ] {
        assert_refused(&external(entries), Reason::UnsafeExternalData, what);
    }
}

/// Reads everything; what it answers does not matter, that it answers does.
fn survives(bytes: &[u8]) {
    if let Ok(outline) = check(bytes, Limits::default()) {
        assert!(outline.nodes <= Limits::default().nodes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        survives(&bytes);
    }

    /// Bytes overwritten, pieces cut out and doubled, in models that the runtime accepts.
    #[test]
    fn mutated_models_are_survived(
        name in prop::sample::select(vec!["affine", "echo", "slow", "tokens", "picky", "fixed"]),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..64, 0u8..3), 1..8),
    ) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/models/{name}.onnx"));
        let mut bytes = std::fs::read(path).unwrap();
        for (index, byte, length, kind) in edits {
            if bytes.is_empty() { break; }
            let start = index.index(bytes.len());
            let end = (start + length).min(bytes.len());
            match kind {
                0 => bytes[start] = byte,
                1 => { bytes.drain(start..end); }
                _ => { let piece = bytes[start..end].to_vec(); bytes.splice(start..start, piece); }
            }
        }
        survives(&bytes);
    }
}
