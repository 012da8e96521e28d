//! The gRPC port with tonic's client: metadata, typed and raw contents, every datatype.

use bytes::Bytes;
use tidewright_server::protocols::pb::grpc_inference_service_client::GrpcInferenceServiceClient;
use tidewright_server::protocols::pb::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tidewright_server::protocols::pb::{self, InferTensorContents, ModelInferRequest};
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Server, model};

pub type Inference = GrpcInferenceServiceClient<Channel>;

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub async fn channel(server: &Server) -> Channel {
    channel_to(server.grpc).await
}

pub async fn channel_to(address: std::net::SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

pub async fn inference(server: &Server) -> Inference {
    Inference::new(channel(server).await)
}

fn input(name: &str, datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents,
        ..InferInputTensor::default()
    }
}

/// One item for the model `affine`, or `slow` when it has one value.
pub fn request(model: &str, id: &str, values: &[f32]) -> ModelInferRequest {
    let contents = InferTensorContents {
        fp32_contents: values.to_vec(),
        ..InferTensorContents::default()
    };
    ModelInferRequest {
        model_name: model.to_owned(),
        id: id.to_owned(),
        inputs: vec![input(
            "x",
            "FP32",
            &[1, i64::try_from(values.len()).unwrap()],
            Some(contents),
        )],
        ..ModelInferRequest::default()
    }
}

fn floats(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn what_there_is() {
    let (affine, tokens) = (model("affine"), model("tokens"));
    let server = Server::start(&["--model", &affine, "--model", &tokens]);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        assert!(
            client
                .server_live(pb::ServerLiveRequest {})
                .await
                .unwrap()
                .get_ref()
                .live
        );
        assert!(
            client
                .server_ready(pb::ServerReadyRequest {})
                .await
                .unwrap()
                .get_ref()
                .ready
        );
        let metadata = client
            .server_metadata(pb::ServerMetadataRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(metadata.name, "tidewright-inference-server");
        assert!(metadata.extensions.contains(&"statistics".to_owned()));
        let wanted = |name: &str, version: &str| pb::ModelMetadataRequest {
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let metadata = client.model_metadata(wanted("tokens", "")).await.unwrap().into_inner();
        assert_eq!(
            (metadata.name.as_str(), metadata.versions),
            ("tokens", vec!["1".to_owned()])
        );
        assert_eq!(metadata.platform, "onnxruntime_onnx");
        assert_eq!(
            (metadata.inputs[0].datatype.as_str(), &metadata.inputs[0].shape[..]),
            ("INT64", &[-1, -1][..])
        );
        assert_eq!(metadata.outputs[0].name, "total");
        let unknown = client.model_metadata(wanted("tokens", "7")).await.unwrap_err();
        assert_eq!(
            (unknown.code(), unknown.message()),
            (
                Code::NotFound,
                "model \"tokens\" has no version \"7\"; the versions: [\"1\"]"
            )
        );
        let ready = pb::ModelReadyRequest {
            name: "tokens".to_owned(),
            version: "1".to_owned(),
        };
        assert!(client.model_ready(ready).await.unwrap().get_ref().ready);
    });
}

#[test]
fn typed_and_raw_contents() {
    let affine = model("affine");
    let server = Server::start(&["--model", &affine]);
    runtime().block_on(async {
        let mut client = inference(&server).await;
        // Typed in, typed out.
        let answer = client
            .model_infer(request("affine", "7", &[1.0, 2.0, 3.0, 4.0]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (
                answer.id.as_str(),
                answer.model_name.as_str(),
                answer.model_version.as_str()
            ),
            ("7", "affine", "1")
        );
        assert_eq!(answer.outputs[0].shape, [1, 3]);
        assert_eq!(
            answer.outputs[0].contents.as_ref().unwrap().fp32_contents,
            [30.0, 31.0, 302.0]
        );
        assert!(answer.raw_output_contents.is_empty());
        // Raw in, raw out; asked for by name, compressed on the way.
        let mut compressing = client.clone().send_compressed(CompressionEncoding::Gzip);
        let raw = ModelInferRequest {
            model_name: "affine".to_owned(),
            inputs: vec![input("x", "FP32", &[1, 4], None)],
            outputs: vec![InferRequestedOutputTensor {
                name: "y".to_owned(),
                ..InferRequestedOutputTensor::default()
            }],
            raw_input_contents: vec![floats(&[1.0, 2.0, 3.0, 4.0])],
            ..ModelInferRequest::default()
        };
        let answer = compressing.model_infer(raw.clone()).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents, [floats(&[30.0, 31.0, 302.0])]);
        assert!(answer.outputs[0].contents.is_none());
        for (change, error) in [
            (
                ModelInferRequest {
                    raw_input_contents: vec![floats(&[1.0])],
                    ..raw.clone()
                },
                "input \"x\": shape [1, 4] of FP32 takes 16 bytes, its binary data has 4",
            ),
            (
                ModelInferRequest {
                    raw_input_contents: vec![floats(&[1.0]); 2],
                    ..raw.clone()
                },
                "raw_input_contents has 2 entries, there are 1 inputs",
            ),
            (
                ModelInferRequest {
                    inputs: request("affine", "", &[1.0, 2.0, 3.0, 4.0]).inputs,
                    ..raw.clone()
                },
                "input \"x\" has both contents and raw_input_contents",
            ),
            (
                ModelInferRequest {
                    inputs: vec![input("x", "FP32", &[1, -4], None)],
                    ..raw.clone()
                },
                "input \"x\": shape: -4 is no dimension",
            ),
            (
                ModelInferRequest {
                    inputs: vec![input("x", "INT8", &[1, 4], None)],
                    ..raw.clone()
                },
                "input \"x\": expected datatype FP32, got INT8",
            ),
            (
                request("affine", "", &[1.0]),
                "input \"x\": expected shape [-1, 4], got [1, 1]",
            ),
            (
                ModelInferRequest {
                    inputs: vec![input("x", "FP32", &[1, 4], None)],
                    ..request("affine", "", &[])
                },
                "input \"x\": shape [1, 4] holds 4 values, data has 0",
            ),
            (
                ModelInferRequest {
                    inputs: Vec::new(),
                    ..request("affine", "", &[])
                },
                "input \"x\" is missing; the model's inputs: \"x\" FP32 [-1, 4]",
            ),
        ] {
            let status = client.model_infer(change).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, error));
        }
    });
}

#[test]
fn bf16_travels_raw() {
    let bf16 = model("bf16");
    let server = Server::start(&["--model", &bf16]);
    runtime().block_on(async {
        let raw = ModelInferRequest {
            model_name: "bf16".to_owned(),
            inputs: vec![input("in_bf16", "BF16", &[1, 2], None)],
            raw_input_contents: vec![vec![0x80, 0x3f, 0x80, 0xff].into()],
            ..ModelInferRequest::default()
        };
        let mut client = inference(&server).await;
        let answer = client.model_infer(raw.clone()).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents, raw.raw_input_contents);
        assert_eq!(answer.outputs[0].datatype, "BF16");
    });
}

#[test]
fn every_datatype_travels() {
    let echo = model("echo");
    let server = Server::start(&["--model", &echo]);
    let rows: Vec<(&str, Vec<u8>, Option<InferTensorContents>)> = {
        let empty = InferTensorContents::default;
        vec![
            (
                "BOOL",
                vec![1, 0],
                Some(InferTensorContents {
                    bool_contents: vec![true, false],
                    ..empty()
                }),
            ),
            (
                "UINT8",
                vec![0, 255],
                Some(InferTensorContents {
                    uint_contents: vec![0, 255],
                    ..empty()
                }),
            ),
            (
                "UINT16",
                vec![1, 0, 255, 255],
                Some(InferTensorContents {
                    uint_contents: vec![1, 65_535],
                    ..empty()
                }),
            ),
            (
                "UINT32",
                vec![1, 0, 0, 0, 2, 0, 0, 0],
                Some(InferTensorContents {
                    uint_contents: vec![1, 2],
                    ..empty()
                }),
            ),
            (
                "UINT64",
                [[1, 0, 0, 0, 0, 0, 0, 0], [255; 8]].concat(),
                Some(InferTensorContents {
                    uint64_contents: vec![1, u64::MAX],
                    ..empty()
                }),
            ),
            (
                "INT8",
                vec![128, 127],
                Some(InferTensorContents {
                    int_contents: vec![-128, 127],
                    ..empty()
                }),
            ),
            (
                "INT16",
                vec![0, 128, 1, 0],
                Some(InferTensorContents {
                    int_contents: vec![-32_768, 1],
                    ..empty()
                }),
            ),
            (
                "INT32",
                vec![0, 0, 0, 128, 1, 0, 0, 0],
                Some(InferTensorContents {
                    int_contents: vec![i32::MIN, 1],
                    ..empty()
                }),
            ),
            (
                "INT64",
                [[255; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat(),
                Some(InferTensorContents {
                    int64_contents: vec![-1, 1],
                    ..empty()
                }),
            ),
            ("FP16", vec![0, 0x3c, 0, 0xfc], None),
            (
                "FP32",
                floats(&[0.1, f32::INFINITY]).to_vec(),
                Some(InferTensorContents {
                    fp32_contents: vec![0.1, f32::INFINITY],
                    ..empty()
                }),
            ),
            (
                "FP64",
                [0.1f64, 1e308].iter().flat_map(|value| value.to_le_bytes()).collect(),
                Some(InferTensorContents {
                    fp64_contents: vec![0.1, 1e308],
                    ..empty()
                }),
            ),
            (
                "BYTES",
                b"\x02\0\0\0\xc3\xa9\0\0\0\0".to_vec(),
                Some(InferTensorContents {
                    bytes_contents: vec!["é".into(), Bytes::new()],
                    ..empty()
                }),
            ),
        ]
    };
    runtime().block_on(async {
        let mut client = inference(&server).await;
        let name = |way: &str, datatype: &str| format!("{way}_{}", datatype.to_lowercase());
        let raw = ModelInferRequest {
            model_name: "echo".to_owned(),
            inputs: rows
                .iter()
                .map(|(datatype, _, _)| input(&name("in", datatype), datatype, &[1, 2], None))
                .collect(),
            raw_input_contents: rows.iter().map(|(_, bytes, _)| bytes.clone().into()).collect(),
            ..ModelInferRequest::default()
        };
        let answer = client.model_infer(raw.clone()).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents, raw.raw_input_contents);
        // FP16 has no typed form: who asks for it gets all outputs raw, who does not gets them typed. The model wants all inputs, so these are raw.
        let typed_inputs: Vec<_> = rows
            .iter()
            .map(|(datatype, _, contents)| input(&name("in", datatype), datatype, &[1, 2], contents.clone()))
            .collect();
        let status = client
            .model_infer(ModelInferRequest {
                inputs: typed_inputs,
                raw_input_contents: Vec::new(),
                ..raw.clone()
            })
            .await
            .unwrap_err();
        assert_eq!(
            status.message(),
            "input \"in_fp16\": FP16 is sent in raw_input_contents"
        );
        let too_wide = InferTensorContents {
            int_contents: vec![1, 128],
            ..InferTensorContents::default()
        };
        let status = client
            .model_infer(ModelInferRequest {
                inputs: vec![input("in_int8", "INT8", &[1, 2], Some(too_wide))],
                raw_input_contents: Vec::new(),
                ..raw
            })
            .await
            .unwrap_err();
        assert_eq!(status.message(), "input \"in_int8\": value 1 (128) does not fit INT8");
    });
}
