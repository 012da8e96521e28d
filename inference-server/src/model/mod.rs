//! What a model is: where its file is, what it takes and gives, and which are loaded.

pub mod declared;
pub mod directory;
pub mod external;
pub mod onnx;
pub mod precheck;
pub mod protobuf;
pub mod registry;
pub mod signature;
pub mod source;
pub mod tensors;
pub mod weights;
