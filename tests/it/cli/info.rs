//! `info`: what a tensor is, and what its values are like.

use bowstring_wire::dtype::DType;
use serde_json::{Value, json};

use crate::space::Space;
use crate::tensor::Tensor;

/// The one object that it prints.
fn info(space: &Space, arguments: &[&str]) -> Value {
    let told = space.told(&[&["info", "--json"], arguments].concat());
    assert_eq!(told.code, Some(0), "{told:?}");
    told.json().remove(0)
}

fn of(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    let shape = shape.to_vec();
    Tensor {
        dtype,
        shape,
        bytes,
    }
}

/// How many values the histogram has.
fn counted(info: &Value) -> u64 {
    let bins = info["histogram"].as_array().unwrap().iter();
    bins.map(|bin| bin["count"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn every_dtype_is_read_to_its_last_value() {
    let space = Space::new("info-dtypes").await;
    for dtype in DType::ALL {
        let tensor = Tensor::sample(dtype, &[7, 3]);
        space.put(dtype.name(), &tensor).await.unwrap();
        let info = info(&space, &[dtype.name()]);
        assert_eq!(info["dtype"], dtype.name());
        assert_eq!(info["checksum"], tensor.checksum());
        let values = &info["values"];
        assert_eq!(values["elements"], 21, "{info}");
        let odd = ["nan", "positive_infinity", "negative_infinity"];
        let odd: u64 = odd.map(|it| values[it].as_u64().unwrap()).iter().sum();
        assert_eq!(counted(&info) + odd, 21, "{info}");
    }
}

#[tokio::test]
async fn a_person_sees_a_histogram() {
    let space = Space::new("info").await;
    let values = [0.25_f32, 0.5, 0.5, 1.0, f32::NAN, f32::INFINITY, -1.0, 0.0];
    let bytes = values.map(f32::to_le_bytes).concat();
    let tensor = of(DType::Float32, &[2, 4], bytes);
    let metadata = json!({"key": "a\u{1b}b", "metadata": {"m": "\u{1b}[31m"}, "ttl_ms": 3_600_000});
    space.put_with(&metadata, &tensor).await.unwrap();
    let told = space.told(&["info", "a\u{1b}b"]);
    assert_eq!((told.code, &*told.stderr), (Some(0), ""));
    for part in [
        "a\\u{1b}b",
        "[2, 4]",
        "32 B",
        "metadata  m = \\u{1b}[31m",
        "8 values, 1 NaN, 1 +inf",
        "min -1  max 1  mean 0.2083",
        " 0.4 ≤ ████",
    ] {
        assert!(told.stdout.contains(part), "{part:?}: {}", told.stdout);
    }
    assert!(!told.stdout.contains('\u{1b}'));
    let info = info(&space, &["a\u{1b}b"]);
    assert_eq!((counted(&info), &info["values"]["zero"]), (6, &json!(1)));
}

#[tokio::test]
async fn of_a_large_tensor_some_places_are_read() {
    let space = Space::new("info-large").await;
    // Rows of one value each: the place of a value tells its row.
    let bytes = (0..100_000_u32).flat_map(|row| [row.to_le_bytes(); 4]);
    let bytes: Vec<u8> = bytes.flatten().collect();
    let tensor = of(DType::UInt32, &[100_000, 4], bytes);
    space.put("rows", &tensor).await.unwrap();
    let some = info(&space, &["rows", "--read", "16KiB"]);
    assert_eq!(some["values"]["elements"], 4_096);
    // From the first row to the last.
    assert_eq!(
        (&some["values"]["min"], &some["values"]["max"]),
        (&json!(0.0), &json!(99_999.0))
    );
    assert_eq!(counted(&some), 4_096);
    let told = space.told(&["info", "rows", "--read", "16KiB"]).stdout;
    assert!(
        told.contains("4,096 of 400,000 values, in 16 places"),
        "{told}"
    );

    // One row that is larger than what is read.
    let tensor = Tensor::sample(DType::UInt8, &[1, 5_000_000]);
    space.put("row", &tensor).await.unwrap();
    assert_eq!(
        info(&space, &["row", "--read", "1MiB"])["values"]["elements"],
        1 << 20
    );
    assert_eq!(info(&space, &["row", "--read", "0"])["values"], Value::Null);
}

#[tokio::test]
async fn what_has_no_values() {
    let space = Space::new("info-none").await;
    space
        .put("empty", &Tensor::sample(DType::Float32, &[0, 3]))
        .await
        .unwrap();
    let empty = info(&space, &["empty"]);
    assert_eq!(
        (&empty["values"], &empty["histogram"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(space.told(&["info", "empty"]).code, Some(0));
    let none = space.told(&["info", "x"]);
    assert_eq!((none.code, &*none.stdout), (Some(1), ""));
    assert!(
        none.stderr.starts_with("bowstring: not_found: "),
        "{none:?}"
    );
}
