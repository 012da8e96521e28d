//! Messages of calls: taken apart only after their parts were counted.

use std::any::TypeId;
use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::protocols::pb::ModelInferRequest;
use crate::protocols::{errors, parts};

/// Protobuf, as `tonic_prost::ProstCodec`, with a limit on the parts of a request. Others have no parts that repeat, or are small.
#[derive(Debug)]
pub struct Counted<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Counted<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Counted<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountedDecoder(PhantomData)
    }
}

/// Decodes what is not too much.
#[derive(Debug)]
pub struct CountedDecoder<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for CountedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Not copied: the message lies in one piece.
        let message = buffer.copy_to_bytes(buffer.remaining());
        if TypeId::of::<U>() == TypeId::of::<ModelInferRequest>() {
            parts::check(&message).map_err(|error| errors::grpc_status(&error))?;
        }
        // As the specification of gRPC has it.
        let decoded = U::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(decoded))
    }
}
