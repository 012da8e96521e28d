//! The outline of an ONNX file: a walk over its graphs that counts and lists, within limits, and copies no weights.
//!
//! Field numbers are those of `onnx.proto` (IR version 13). A hand-written walk, because a generated parser would copy all weights and build
//! every node before the first limit could be looked at; this one keeps slices of the bytes and the names of distinct operators.

use std::collections::BTreeMap;

use tidewright_contract::exit::Reason;

use super::declared::{Declared, Dimension, declared};
use super::protobuf::{Value, each, fields, integers};
use super::source::LoadError;
use super::tensors::{External, RANK_MAX, dense_bytes, element_bits, refused, shown, tensor};

/// How large a model may be. The defaults are far above the largest models that are served from one file, and far below what hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file: protobuf itself ends at 2 GiB.
    pub file_bytes: u64,
    /// Graphs inside graphs (branches, loop bodies). The wire format allows 33 of them: 100 messages, three a level.
    pub subgraph_depth: usize,
    /// Local functions that call each other in a row. ONNX Runtime inlines them recursively; since 1.32 it has the same limit, before it crashed.
    pub function_depth: usize,
    /// Nodes after inlining of local functions: two calls at each of 40 levels would make 2^40 of them. Also the most tensors, functions, and
    /// inputs and outputs, so that the outline stays small whatever the file says.
    pub nodes: u64,
    /// Bytes of one sparse tensor once it is dense, and of one item of an input or output with known shape.
    pub tensor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: (1 << 31) - 1,
            subgraph_depth: 24,
            function_depth: 100,
            nodes: 500_000,
            tensor_bytes: 1 << 30,
        }
    }
}

/// An operator or a local function: domain, name, overload. The default domain is the empty one.
pub type OperatorId<'a> = (&'a str, &'a str, &'a str);

/// How often each operator is used in one graph or function, subgraphs included.
pub type Uses<'a> = BTreeMap<OperatorId<'a>, u64>;

/// What a file says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outline<'a> {
    pub ir_version: u64,
    pub producer: &'a [u8],
    pub producer_version: &'a [u8],
    /// Version of each imported operator set.
    pub opsets: BTreeMap<&'a str, u64>,
    /// Inputs that the caller must give: those with an initializer are not among them.
    pub inputs: Vec<Declared<'a>>,
    pub outputs: Vec<Declared<'a>>,
    pub uses: Uses<'a>,
    pub functions: BTreeMap<OperatorId<'a>, Uses<'a>>,
    /// Nodes as written, before inlining.
    pub nodes: u64,
    pub subgraph_depth: usize,
    pub initializers: u64,
    pub initializer_bytes: u64,
    pub external: Vec<External>,
}

struct Walk<'a> {
    limits: Limits,
    outline: Outline<'a>,
}

/// Reads the outline; refuses what is no ONNX model, and what is over the limits.
pub fn outline(bytes: &[u8], limits: Limits) -> Result<Outline<'_>, LoadError> {
    let mut walk = Walk {
        limits,
        outline: Outline::default(),
    };
    let mut has_graph = false;
    for field in fields(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Varint(version)) => walk.outline.ir_version = version,
            (2, Value::Bytes(name)) => walk.outline.producer = name,
            (3, Value::Bytes(version)) => walk.outline.producer_version = version,
            (7, Value::Bytes(graph)) => {
                // A parser would merge the two, and a checker might look at one only.
                if std::mem::replace(&mut has_graph, true) {
                    return Err(refused("the file is not an ONNX model: it holds two main graphs"));
                }
                let mut uses = Uses::new();
                walk.graph(graph, 0, &mut uses)?;
                walk.outline.uses = uses;
            }
            (8, Value::Bytes(import)) => {
                let (domain, version) = opset(import)?;
                walk.outline.opsets.insert(domain, version);
            }
            (20, Value::Bytes(training)) => {
                each(training, &[1, 2], |graph| walk.graph(graph, 1, &mut Uses::new()))?;
            }
            (25, Value::Bytes(function)) => walk.function(function)?,
            _ => {}
        }
    }
    if !has_graph || walk.outline.ir_version == 0 {
        return Err(refused(
            "the file is not an ONNX model: it has no graph or no IR version",
        ));
    }
    if walk.outline.ir_version >= 3 && walk.outline.opsets.is_empty() {
        return Err(refused("the model imports no operator set"));
    }
    Ok(walk.outline)
}

fn opset(import: &[u8]) -> Result<(&str, u64), LoadError> {
    let (mut domain, mut version) = ("", 0);
    for field in fields(import) {
        match field? {
            super::protobuf::Field {
                number: 1,
                value: Value::Bytes(name),
            } => domain = text(name)?,
            super::protobuf::Field {
                number: 2,
                value: Value::Varint(number),
            } => version = number,
            _ => {}
        }
    }
    if version == 0 || version > u64::from(u32::MAX) {
        return Err(refused(format!("operator set {domain:?} has no usable version")));
    }
    Ok((plain(domain), version))
}

fn text(bytes: &[u8]) -> Result<&str, LoadError> {
    std::str::from_utf8(bytes).map_err(|_| refused("the name of an operator, function or domain is not UTF-8"))
}

/// The default domain has two names.
fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl<'a> Walk<'a> {
    fn within(&self, count: u64, what: &str) -> Result<(), LoadError> {
        if count <= self.limits.nodes {
            return Ok(());
        }
        let message = format!("the model has more than {} {what}", self.limits.nodes);
        Err(LoadError::new(Reason::ModelTooLarge, message))
    }

    fn graph(&mut self, message: &'a [u8], depth: usize, uses: &mut Uses<'a>) -> Result<(), LoadError> {
        if depth > self.limits.subgraph_depth {
            return Err(LoadError::new(
                Reason::ModelTooLarge,
                format!("graphs are nested more than {} deep", self.limits.subgraph_depth),
            ));
        }
        self.outline.subgraph_depth = self.outline.subgraph_depth.max(depth);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let mut given = std::collections::BTreeSet::new();
        for field in fields(message) {
            let field = field?;
            let Value::Bytes(bytes) = field.value else { continue };
            match field.number {
                1 => self.node(bytes, depth, uses)?,
                5 => {
                    let name = self.tensor(bytes)?;
                    if depth == 0 {
                        given.insert(name);
                    }
                }
                11 if depth == 0 => inputs.push(declared(bytes)?),
                12 if depth == 0 => outputs.push(declared(bytes)?),
                15 => self.sparse(bytes)?,
                _ => {}
            }
            self.within((inputs.len() + outputs.len()) as u64, "inputs and outputs")?;
        }
        if depth == 0 {
            inputs.retain(|input| !given.contains(input.name));
            for value in inputs.iter().chain(&outputs) {
                self.check_item(value)?;
            }
            self.outline.inputs = inputs;
            self.outline.outputs = outputs;
        }
        Ok(())
    }

    fn node(&mut self, message: &'a [u8], depth: usize, uses: &mut Uses<'a>) -> Result<(), LoadError> {
        self.outline.nodes += 1;
        self.within(self.outline.nodes, "nodes")?;
        let (mut domain, mut name, mut overload) = ("", "", "");
        for field in fields(message) {
            let field = field?;
            let Value::Bytes(bytes) = field.value else { continue };
            match field.number {
                4 => name = text(bytes)?,
                5 => self.attribute(bytes, depth, uses)?,
                7 => domain = text(bytes)?,
                8 => overload = text(bytes)?,
                _ => {}
            }
        }
        *uses.entry((plain(domain), name, overload)).or_default() += 1;
        Ok(())
    }

    fn attribute(&mut self, message: &'a [u8], depth: usize, uses: &mut Uses<'a>) -> Result<(), LoadError> {
        for field in fields(message) {
            let field = field?;
            let Value::Bytes(bytes) = field.value else { continue };
            match field.number {
                5 | 10 => {
                    self.tensor(bytes)?;
                }
                6 | 11 => self.graph(bytes, depth + 1, uses)?,
                22 | 23 => self.sparse(bytes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&mut self, message: &'a [u8]) -> Result<(), LoadError> {
        let (mut domain, mut name, mut overload) = ("", "", "");
        let mut uses = Uses::new();
        for field in fields(message) {
            let field = field?;
            let Value::Bytes(bytes) = field.value else { continue };
            match field.number {
                1 => name = text(bytes)?,
                7 => self.node(bytes, 0, &mut uses)?,
                10 => domain = text(bytes)?,
                // Default values of attributes may hold tensors and graphs too.
                11 => self.attribute(bytes, 0, &mut uses)?,
                13 => overload = text(bytes)?,
                _ => {}
            }
        }
        let id = (plain(domain), name, overload);
        if self.outline.functions.insert(id, uses).is_some() {
            return Err(refused(format!(
                "function {name:?} of domain {domain:?} is defined twice"
            )));
        }
        self.within(self.outline.functions.len() as u64, "functions")
    }

    fn tensor(&mut self, message: &'a [u8]) -> Result<&'a [u8], LoadError> {
        let tensor = tensor(message)?;
        self.outline.initializers += 1;
        self.within(self.outline.initializers, "tensors")?;
        self.outline.initializer_bytes = self.outline.initializer_bytes.saturating_add(tensor.bytes);
        self.outline.external.extend(tensor.external);
        Ok(tensor.name)
    }

    /// ONNX Runtime makes sparse tensors dense when it loads them: a few bytes may ask for any amount of memory.
    fn sparse(&mut self, message: &'a [u8]) -> Result<(), LoadError> {
        let mut dims = Vec::new();
        let mut element = None;
        for field in fields(message) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(values)) => {
                    element = Some(tensor(values)?.element);
                    self.tensor(values)?;
                }
                (2, Value::Bytes(indices)) => {
                    self.tensor(indices)?;
                }
                (3, value) => {
                    for size in integers(value) {
                        if dims.len() == RANK_MAX {
                            return Err(refused(format!("a sparse tensor has more than {RANK_MAX} dimensions")));
                        }
                        dims.push(size?);
                    }
                }
                _ => {}
            }
        }
        let bits = element.map(element_bits).transpose()?.flatten().unwrap_or(128);
        match dense_bytes(&dims, bits) {
            Some(bytes) if bytes <= self.limits.tensor_bytes => Ok(()),
            _ => Err(LoadError::new(
                Reason::ModelTooLarge,
                format!(
                    "a sparse tensor has more than {} bytes once it is dense",
                    self.limits.tensor_bytes
                ),
            )),
        }
    }

    /// One item of a declared shape, free sizes counted as 1: so much is allocated to try the model out.
    fn check_item(&self, value: &Declared<'_>) -> Result<(), LoadError> {
        let sizes: Vec<u64> = value
            .shape
            .iter()
            .flatten()
            .map(|dimension| match dimension {
                Dimension::Size(size) => *size,
                Dimension::Free(_) => 1,
            })
            .collect();
        let bits = if value.element == 0 {
            8
        } else {
            element_bits(value.element)?.unwrap_or(64)
        };
        match dense_bytes(&sizes, bits) {
            Some(bytes) if bytes <= self.limits.tensor_bytes => Ok(()),
            _ => Err(LoadError::new(
                Reason::ModelTooLarge,
                format!(
                    "{} is declared with more than {} bytes",
                    shown(value.name),
                    self.limits.tensor_bytes
                ),
            )),
        }
    }
}
