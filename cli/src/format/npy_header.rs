//! What stands before the array in a `.npy`: a Python dictionary that says what it is.

use std::io::Read;

use bowstring_wire::dtype::DType;
use bowstring_wire::shape::Shape;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself reads no longer ones.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// What NumPy calls the elements. The two of float8 are both `V1`, void bytes.
const CODES: [(&str, DType); 15] = [
    ("b1", DType::Bool),
    ("i1", DType::Int8),
    ("i2", DType::Int16),
    ("i4", DType::Int32),
    ("i8", DType::Int64),
    ("u1", DType::UInt8),
    ("u2", DType::UInt16),
    ("u4", DType::UInt32),
    ("u8", DType::UInt64),
    ("f2", DType::Float16),
    ("f4", DType::Float32),
    ("f8", DType::Float64),
    ("c8", DType::Complex64),
    ("c16", DType::Complex128),
    ("V2", DType::BFloat16),
];

/// What a file says of its array.
#[derive(Debug, PartialEq)]
pub struct Header {
    pub dtype: DType,
    /// Bytes of what is to be turned round; 0 where nothing is.
    pub swap: usize,
    pub fortran: bool,
    pub shape: Shape,
}

impl Header {
    /// Reads it, and how many bytes it has.
    pub fn read(from: &mut dyn Read, void: Option<DType>) -> Result<(Header, u64), String> {
        let short = |_| "it ends within its header".to_owned();
        let mut start = [0; 8];
        from.read_exact(&mut start).map_err(short)?;
        if !start.starts_with(MAGIC) {
            return Err("this is no npy: it does not begin with \\x93NUMPY".to_owned());
        }
        let (length, before) = match start[6] {
            1 => {
                let mut length = [0; 2];
                from.read_exact(&mut length).map_err(short)?;
                (usize::from(u16::from_le_bytes(length)), 10)
            }
            2 | 3 => {
                let mut length = [0; 4];
                from.read_exact(&mut length).map_err(short)?;
                let length = usize::try_from(u32::from_le_bytes(length));
                (length.unwrap_or(usize::MAX), 12)
            }
            version => {
                return Err(format!(
                    "npy of a version that is not known; version=`{version}`"
                ));
            }
        };
        if length > HEADER_BYTES_MAX {
            return Err(format!(
                "its header is too long; bytes=`{length}` expected at most {HEADER_BYTES_MAX}"
            ));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text).map_err(short)?;
        let text = std::str::from_utf8(&text).map_err(|_| "its header is no text".to_owned())?;
        let header = parse(text, void)?;
        Ok((header, (before + length) as u64))
    }

    /// Bytes of the array.
    pub fn bytes(&self) -> Result<u64, String> {
        let bytes = self.shape.bytes(self.dtype);
        bytes.map_err(|error| error.message.into_owned())
    }
}

/// What stands before the bytes of an array, as NumPy writes it.
pub fn header(dtype: DType, shape: &Shape) -> Vec<u8> {
    let code = CODES.iter().find(|(_, of)| *of == dtype);
    let code = code.map_or("V1", |(code, _)| code);
    // NumPy gives an order to what has one, and to void bytes.
    let order = if dtype.size() > 1 || code == "V1" {
        '<'
    } else {
        '|'
    };
    let dims: Vec<String> = shape.dims().iter().map(u64::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        dims.join(", ")
    );
    // So that the array begins at a multiple of 64.
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    // 32 axes of 20 digits are far from 64 KiB.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&MAGIC[..], &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat()
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, and nothing else.
fn parse(text: &str, void: Option<DType>) -> Result<Header, String> {
    let mut rest = text.trim();
    let mut eat = |token: &str| match rest.trim_start().strip_prefix(token) {
        Some(after) => {
            rest = after.trim_start();
            (true, rest)
        }
        None => (false, rest.trim_start()),
    };
    let odd = |rest: &str| {
        let near: String = rest.chars().take(20).collect();
        format!(
            "its header is not that of an array; near=`{near}` expected descr, fortran_order and shape"
        )
    };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    if !eat("{").0 {
        return Err(odd(text));
    }
    loop {
        let (done, now) = eat("}");
        if done {
            if !now.is_empty() {
                return Err(odd(now));
            }
            break;
        }
        let name = quoted(now).ok_or_else(|| odd(now))?;
        eat(&now[..name.len() + 2]);
        let (colon, now) = eat(":");
        if !colon {
            return Err(odd(now));
        }
        match name {
            "descr" => {
                let Some(value) = quoted(now) else {
                    let what = "records, that is arrays with named fields, are no tensors";
                    return Err(if now.starts_with('[') {
                        what.to_owned()
                    } else {
                        odd(now)
                    });
                };
                descr = Some(value);
                eat(&now[..value.len() + 2]);
            }
            "fortran_order" => {
                let word = if now.starts_with("True") {
                    "True"
                } else {
                    "False"
                };
                if !eat(word).0 {
                    return Err(odd(now));
                }
                fortran = Some(word == "True");
            }
            "shape" => {
                let end = now.find(')').ok_or_else(|| odd(now))?;
                let inner = now.strip_prefix('(').ok_or_else(|| odd(now))?;
                let inner = inner
                    .get(..end - 1)
                    .unwrap_or("")
                    .trim()
                    .trim_end_matches(',');
                let dims = inner
                    .split(',')
                    .map(str::trim)
                    .filter(|_| !inner.is_empty());
                let dims: Result<Vec<u64>, _> =
                    dims.map(|dim| dim.trim_end_matches('L').parse()).collect();
                shape = Some(dims.map_err(|_| odd(now))?);
                eat(&now[..=end]);
            }
            _ => return Err(odd(now)),
        }
        eat(",");
    }
    let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else {
        return Err(odd(text));
    };
    let (dtype, swap) = dtype(descr, void)?;
    let shape = Shape::new(&shape).map_err(|error| error.message.into_owned())?;
    Ok(Header {
        dtype,
        swap,
        fortran: fortran && shape.rank() > 1,
        shape,
    })
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = &text[1..];
    Some(&inner[..inner.find(quote)?])
}

fn dtype(descr: &str, void: Option<DType>) -> Result<(DType, usize), String> {
    let plain = descr.trim_start_matches(['<', '>', '|', '=']);
    let known = CODES.iter().find(|(code, _)| *code == plain);
    let dtype = match (plain, known) {
        // What ml_dtypes' types are saved as; NumPy forgets which of them it was.
        ("V2", Some((_, bfloat16))) => void.unwrap_or(*bfloat16),
        ("V1", _) => void.ok_or(
            "void bytes, which NumPy writes for float8; say which with --dtype float8_e4m3fn or --dtype float8_e5m2",
        )?,
        // What ml_dtypes calls float8_e5m2, which NumPy then does not read.
        ("f1", _) => DType::Float8E5M2,
        (_, Some((_, dtype))) => *dtype,
        _ => {
            return Err(format!(
                "elements that no tensor has; descr=`{descr}` expected bool, integers, float16 to float64, complex, or V2 and V1 for bfloat16 and float8"
            ));
        }
    };
    let fits = !plain.starts_with('V') || plain.ends_with(&dtype.size().to_string());
    if !fits {
        return Err(format!(
            "--dtype has another size than the file's elements; descr=`{descr}` dtype=`{dtype}`"
        ));
    }
    let part = dtype.size() / dtype.storage_per_element();
    Ok((dtype, if descr.starts_with('>') { part } else { 0 }))
}
