use bowstring_wire::error::Code;

use super::functions::{DTYPES, bytes};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn elements_slices_lists_and_bytes_are_the_tensors_own() {
    let bed = Bed::new();
    for dtype in DTYPES {
        let all: Vec<f64> = (0..24).map(f64::from).collect();
        bed.put_as("m", dtype.name(), dtype, &[4, 3, 2], &bytes(dtype, &all))
            .await;
        let found = |call: &str| format!("SELECT {call} FROM tensors WHERE key = '{dtype}'");
        let same = |call: &str| format!("SELECT {call} FROM ns.m WHERE key = '{dtype}'");
        // The last that was put is all that there is.
        for of in [&found as &dyn Fn(&str) -> String, &same] {
            assert_eq!(
                bed.numbers(&of("element(value, 3, 2, 1)")).await,
                [[Some(23.0)]]
            );
            assert_eq!(
                bed.numbers(&of("element(value, 1, 0, 1)")).await,
                [[Some(7.0)]]
            );
            assert_eq!(
                bed.numbers(&of("element(slice(slice(value, 1, 4), 1, 2), 0, 2, 0)"))
                    .await,
                [[Some(16.0)]]
            );
            let part = of("to_list(slice(value, 1, 2))");
            assert_eq!(bed.one(&part).await, "[6.0, 7.0, 8.0, 9.0, 10.0, 11.0]");
            let shape = of("slice(value, 1, 3)['shape']");
            assert_eq!(bed.one(&shape).await, "[2, 3, 2]");
            let none = of("slice(value, 4, 4)['shape']");
            assert_eq!(bed.one(&none).await, "[0, 3, 2]");
            let first: String = bytes(dtype, &all[..6])
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert_eq!(bed.one(&of("to_binary(slice(value, 0, 1))")).await, first);
            let whole = bed.one(&of("to_binary(value)")).await;
            assert_eq!(whole.len(), 2 * 24 * dtype.size());
        }
        bed.delete("m", dtype.name()).await;
    }
    // Their bytes alone take no numbers.
    bed.put_as("m", "i", DType::Int64, &[2], &[7; 16]).await;
    assert_eq!(
        bed.one("SELECT to_binary(slice(value, 1, 2)) FROM tensors")
            .await,
        "07".repeat(8)
    );
    assert_eq!(
        bed.one("SELECT slice(value, 1, 2)['dtype'] FROM ns.m")
            .await,
        "int64"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_histogram_counts_as_numpy_does() {
    let bed = Bed::new();
    bed.put(
        "m",
        "a",
        &[0.0, 0.1, 0.2, 0.5, 1.0, 1.5, -0.1, f32::NAN, 0.999],
    )
    .await;
    let counts = "SELECT histogram(value, 2, 0, 1) FROM tensors";
    assert_eq!(bed.one(counts).await, "[3, 3]");
    let counts = "SELECT histogram(value, 10, 0, 1) FROM tensors";
    assert_eq!(bed.one(counts).await, "[1, 1, 1, 0, 0, 1, 0, 0, 0, 2]");
    // Edges that are no doubles: those that `linspace` has decide.
    let tenths: Vec<u8> = (0..=10)
        .flat_map(|n| (f64::from(n) * 0.1).to_le_bytes())
        .collect();
    bed.put_as("t", "t", DType::Float64, &[11], &tenths).await;
    let counts = "SELECT histogram(value, 10, 0, 1) FROM ns.t";
    assert_eq!(bed.one(counts).await, "[1, 1, 1, 1, 1, 1, 1, 1, 1, 2]");
    bed.put("e", "e", &[]).await;
    assert_eq!(
        bed.one("SELECT histogram(value, 3, 0, 1) FROM ns.e").await,
        "[0, 0, 0]"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_makes_of_a_batch_is_limited() {
    let bed = Bed::new();
    bed.put_as("m", "a", DType::Int8, &[16 << 20], &vec![1; 16 << 20])
        .await;
    let error = bed.error("SELECT to_list(value) FROM tensors").await;
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    assert_eq!(
        bed.one("SELECT tensor_mean(value) FROM tensors").await,
        "1.0"
    );
    for n in 0..1_000 {
        bed.put("n", &n.to_string(), &[1.0]).await;
    }
    let error = bed
        .error("SELECT histogram(value, 60000, 0, 1) FROM ns.n")
        .await;
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
}
