//! What a query failed of, in the codes of the wire.

use std::error::Error as StdError;

use arrow_schema::ArrowError;
use bowstring_wire::error::{Code, Error, clip};
use datafusion::error::DataFusionError;

/// Of a message that quotes a whole expression, so much.
const MESSAGE_BYTES_MAX: usize = 2_048;

/// In the words of DataFusion, what a sort says that would go on on the disk and may not.
const NO_DISK: &str = "DiskManager is disabled";

/// For DataFusion to pass on, and [`of`] to find again.
pub fn passed(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The error of a query.
pub fn of(error: &DataFusionError) -> Error {
    let root = error.find_root();
    if let Some(ours) = ours(root) {
        return ours.clone();
    }
    let code = match root {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        | DataFusionError::Execution(_) => Code::InvalidArgument,
        DataFusionError::NotImplemented(_) => Code::Unimplemented,
        DataFusionError::ResourcesExhausted(_) => Code::ResourceExhausted,
        DataFusionError::ArrowError(error, _) => match **error {
            ArrowError::MemoryError(_) => Code::ResourceExhausted,
            ArrowError::NotYetImplemented(_) => Code::Unimplemented,
            ArrowError::IoError(..) => Code::Internal,
            _ => Code::InvalidArgument,
        },
        _ => Code::Internal,
    };
    let said = root.strip_backtrace();
    if code == Code::ResourceExhausted && said.contains(NO_DISK) {
        return Error::exhausted(
            "the query needs more memory than there is for it: ask for less at once, raise the limit, or have \
             `sql_spill_dir` name a directory for sorts to go on in; limit=`sql_memory`",
        );
    }
    Error::new(
        code,
        format!("the query failed; {}", clip(said.trim(), MESSAGE_BYTES_MAX)),
    )
}

fn ours(error: &DataFusionError) -> Option<&Error> {
    let inner: &(dyn StdError + 'static) = match error {
        DataFusionError::External(inner) => &**inner,
        DataFusionError::IoError(error) => error.get_ref()?,
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::ExternalError(inner) => &**inner,
            ArrowError::IoError(_, error) => error.get_ref()?,
            _ => return None,
        },
        _ => return None,
    };
    inner.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_error_comes_out_as_it_went_in_and_others_get_a_code() {
        let lost = Error::data_loss("a cold object fails its checksum");
        let inside = passed(lost.clone()).context("while a batch was read");
        assert_eq!(of(&inside), lost);
        let written = std::io::Error::other(lost.clone());
        assert_eq!(of(&ArrowError::from(written).into()), lost);
        let written = std::io::Error::other(lost.clone());
        assert_eq!(of(&written.into()), lost);
        let codes = [
            (
                DataFusionError::Plan("no column".into()),
                Code::InvalidArgument,
            ),
            (
                DataFusionError::NotImplemented("x".into()),
                Code::Unimplemented,
            ),
            (
                DataFusionError::ResourcesExhausted("x".into()),
                Code::ResourceExhausted,
            ),
            (
                DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None),
                Code::InvalidArgument,
            ),
            (DataFusionError::Internal("x".into()), Code::Internal),
        ];
        for (error, code) in codes {
            assert_eq!(of(&error).code, code, "{error}");
        }
    }
}
