//! One tensor in other forms: row ranges, flat, opaque, and messages of a chosen size.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_flight::error::FlightError;
use arrow_schema::DataType;
use bowstring_tests::MESSAGE_BYTES_MAX;
use bowstring_wire::dtype::DType;
use serde_json::json;

use crate::space::{Space, refused};
use crate::tensor::Tensor;

#[tokio::test]
async fn row_ranges() {
    let space = Space::new("rows").await;
    let shapes: [(DType, &[usize]); 4] = [
        (DType::UInt16, &[9]),
        (DType::Float32, &[9, 5]),
        (DType::Complex64, &[9]),
        (DType::Bool, &[9, 2, 3]),
    ];
    for (dtype, shape) in shapes {
        let key = format!("{dtype}{shape:?}");
        let tensor = Tensor::sample(dtype, shape);
        space.put(&key, &tensor).await.unwrap();
        for (start, end) in [(0, 9), (3, 7), (8, 9), (0, 0), (9, 9), (4, 4)] {
            let members = json!({"key": key, "rows": [start, end]});
            let got = space.get(&members).await.unwrap();
            assert_eq!(
                got.tensor(),
                tensor.rows(start..end),
                "{key} {start}..{end}"
            );
            // It is of the whole tensor, and could not be checked.
            assert!(!got.schema.metadata().contains_key("tensor.checksum"));
        }
        for rows in [
            json!([-1, 2]),
            json!([3, 2]),
            json!([0, 10]),
            json!([10, 10]),
            json!([1]),
        ] {
            let got = space.get(&json!({"key": key, "rows": rows})).await;
            refused(got, "invalid_argument", &[]);
        }
    }
    space
        .put("scalar", &Tensor::sample(DType::Int8, &[]))
        .await
        .unwrap();
    let got = space.get(&json!({"key": "scalar", "rows": [0, 1]})).await;
    refused(got, "invalid_argument", &[]);
}

#[tokio::test]
async fn rows_of_a_tensor_in_pages() {
    let space = Space::new("pages").await;
    // Neither a row nor the whole is a multiple of a page.
    let tensor = Tensor::sample(DType::UInt8, &[1000, 777]);
    space.put("a", &tensor).await.unwrap();
    for (start, end) in [
        (0, 1),
        (84, 85),
        (83, 170),
        (500, 1000),
        (999, 1000),
        (1, 999),
    ] {
        let got = space
            .get(&json!({"key": "a", "rows": [start, end]}))
            .await
            .unwrap();
        assert_eq!(got.tensor(), tensor.rows(start..end), "{start}..{end}");
    }
}

#[tokio::test]
async fn flat() {
    let space = Space::new("flat").await;
    let shapes: [&[usize]; 5] = [&[], &[5], &[40, 3], &[3, 0], &[2, 3, 4]];
    for dtype in [DType::Float32, DType::BFloat16, DType::Complex128] {
        for shape in shapes {
            let key = format!("{dtype}{shape:?}");
            let tensor = Tensor::sample(dtype, shape);
            space.put(&key, &tensor).await.unwrap();
            let got = space
                .get(&json!({"key": key, "layout": "flat"}))
                .await
                .unwrap();
            assert_eq!(got.schema.field(0).data_type(), &dtype.storage());
            assert_eq!(got.rows(), tensor.storage_shape().iter().product::<usize>());
            assert_eq!(got.tensor(), tensor);
        }
    }
}

#[tokio::test]
async fn opaque() {
    let space = Space::new("opaque").await;
    for dtype in DType::ALL {
        for shape in [&[][..], &[5], &[3, 0], &[2, 3, 4]] {
            let key = format!("{dtype}{shape:?}");
            let tensor = Tensor::sample(dtype, shape);
            space.put(&key, &tensor).await.unwrap();
            let got = space
                .get(&json!({"key": key, "layout": "opaque"}))
                .await
                .unwrap();
            let types: Vec<_> = got.schema.fields().iter().map(|f| f.data_type()).collect();
            let DataType::List(item) = types[2] else {
                panic!("{types:?}")
            };
            assert_eq!(item.data_type(), &DataType::Int64);
            let rest = [types[0], types[1], types[3]];
            assert_eq!(
                rest,
                [&DataType::Utf8, &DataType::Utf8, &DataType::LargeBinary]
            );
            let [batch] = &got.batches[..] else {
                panic!("one row")
            };
            assert_eq!(batch.num_rows(), 1);
            assert_eq!(got.texts("key"), [key]);
            assert_eq!(got.texts("dtype"), [dtype.name()]);
            let said = batch["shape"].as_list::<i32>().value(0);
            let said = said.as_primitive::<Int64Type>().values().to_vec();
            let shape: Vec<i64> = shape.iter().map(|n| i64::try_from(*n).unwrap()).collect();
            assert_eq!(said, shape);
            let data = batch["data"].as_binary::<i64>().value(0);
            assert!(data == tensor.bytes, "{dtype}{shape:?}");
        }
    }
}

#[tokio::test]
async fn messages_of_a_chosen_size() {
    let space = Space::new("sizes").await;
    let cases: [(&str, &[usize]); 4] = [
        ("rows", &[500, 25]),
        ("rows", &[9999]),
        ("flat", &[500, 25]),
        ("flat", &[7, 9999]),
    ];
    for (layout, shape) in cases {
        let key = format!("{layout}{shape:?}");
        let tensor = Tensor::sample(DType::Float32, shape);
        space.put(&key, &tensor).await.unwrap();
        for limit in [64, 100, 4096, 65_537, 1 << 20] {
            let members = json!({"key": key, "layout": layout, "max_message_bytes": limit});
            let got = space.get(&members).await.unwrap();
            let row = if layout == "rows" && shape.len() > 1 {
                100
            } else {
                4
            };
            let whole_row = usize::next_multiple_of(row, 64);
            let largest = *got.body_bytes.iter().max().unwrap();
            assert!(largest <= limit.max(whole_row), "{members}: {largest}");
            assert!(got.body_bytes.len() >= tensor.bytes.len() / limit.max(row));
            assert_eq!(got.tensor(), tensor, "{members}");
        }
    }
}

#[tokio::test]
async fn a_row_above_the_chosen_size_comes_whole() {
    let space = Space::new("wide").await;
    let tensor = Tensor::sample(DType::Float32, &[3, 5000]);
    space.put("a", &tensor).await.unwrap();
    let members = json!({"key": "a", "max_message_bytes": 4096});
    let got = space.get(&members).await.unwrap();
    let rows: Vec<_> = got.batches.iter().map(|batch| batch.num_rows()).collect();
    assert_eq!(rows, [1, 1, 1]);
    assert_eq!(got.tensor(), tensor);
}

/// A stock client takes messages of 4 MiB at most, and the server knows.
#[tokio::test]
async fn a_tensor_above_a_clients_limit_comes_in_messages_below_it() {
    let space = Space::new("large").await;
    for shape in [&[24_000_000_usize][..], &[6000, 4000], &[100, 240_000]] {
        let key = format!("{shape:?}");
        let tensor = Tensor::sample(DType::UInt8, shape);
        space.put(&key, &tensor).await.unwrap();
        let got = space.get(&json!({"key": key})).await.unwrap();
        let largest = *got.body_bytes.iter().max().unwrap();
        assert!((1 << 20..=3 << 20).contains(&largest), "{largest}");
        assert_eq!(got.tensor(), tensor);
    }
}

/// Its rows cannot be cut, so the client's own limit stops it; flat can be.
#[tokio::test]
async fn a_row_above_a_clients_limit_needs_the_flat_layout() {
    let space = Space::new("row").await;
    let tensor = Tensor::sample(DType::UInt8, &[2, MESSAGE_BYTES_MAX + 1000]);
    // arrow-flight's encoder cuts by rows only, so it sends messages that large.
    space.put("a", &tensor).await.unwrap();
    match space.get(&json!({"key": "a"})).await {
        Err(FlightError::Tonic(status)) => {
            // tonic's own words; ours would begin with a code.
            assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
        }
        other => panic!("{:?}", other.map(|got| got.rows())),
    }
    let got = space
        .get(&json!({"key": "a", "layout": "flat"}))
        .await
        .unwrap();
    assert_eq!(got.tensor(), tensor);
    let client = space.client.inner().clone();
    let mut client = client.max_decoding_message_size(16 << 20);
    let mut stream = client
        .do_get(space.ticket(&json!({"key": "a"})))
        .await
        .unwrap()
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend_from_slice(&message.data_body);
    }
    // Two rows in two bodies, each padded.
    assert!(bytes.starts_with(&tensor.bytes[..MESSAGE_BYTES_MAX + 1000]));
}
