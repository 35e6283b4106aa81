//! Rows in the default namespace, under keys that look random. Shared by the benches of the engine.

use std::ops::Range;

use bowstring_cache::put::{Admit, Mode};
use bowstring_cache::rows::{Row, RowsSpec};
use bowstring_cache::{Cache, Id};
use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use tokio::runtime::{Builder, Runtime};

/// Puts rows of so many bytes, `batch` in a call.
pub fn put(cache: &Cache, numbers: Range<usize>, bytes: usize, batch: usize) {
    let keys: Vec<String> = numbers.map(key).collect();
    put_keys(cache, Mode::Keep, &keys, bytes, batch);
}

/// As [`put`], under these keys.
pub fn put_keys(cache: &Cache, mode: Mode, keys: &[String], bytes: usize, batch: usize) {
    let shape = Shape::new(&[bytes as u64 / 4]).unwrap();
    let data = vec![7_u8; bytes];
    let spec = RowsSpec {
        mode,
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    for keys in keys.chunks(batch) {
        let rows = keys.iter().map(|key| Row {
            key,
            dtype: DType::Float32,
            shape: &shape,
            data: smallvec::smallvec![data.as_slice()],
            metadata: &[],
            expires_at_ms: None,
            checksum: None,
            source_version: None,
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let answers = block_on(cache.put_rows(&tenant, &namespace, spec, &rows));
        assert!(answers.iter().all(Result::is_ok));
    }
}

/// The id of an entry's number.
pub fn id(n: usize) -> Id {
    Id::public(Namespace::default(), Key::parse(&key(n)).unwrap())
}

fn key(n: usize) -> String {
    format!("{:08x}", n.wrapping_mul(0x9e37_79b1) % (1 << 32))
}

/// Waits for what the engine does, on the thread that asks.
pub fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
