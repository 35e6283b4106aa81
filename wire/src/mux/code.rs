//! Error codes as one byte. The numbers are on the wire: never change or reuse one.

use crate::error::Code;

const NUMBERS: [(Code, u8); 15] = [
    (Code::NotFound, 1),
    (Code::AlreadyExists, 2),
    (Code::InvalidArgument, 3),
    (Code::ResourceExhausted, 4),
    (Code::FailedPrecondition, 5),
    (Code::NotModified, 6),
    (Code::Moved, 7),
    (Code::Unauthenticated, 8),
    (Code::PermissionDenied, 9),
    (Code::Unavailable, 10),
    (Code::DeadlineExceeded, 11),
    (Code::Cancelled, 12),
    (Code::Unimplemented, 13),
    (Code::DataLoss, 14),
    (Code::Internal, 15),
];

pub(super) fn to_number(code: Code) -> u8 {
    let found = NUMBERS.iter().find(|(known, _)| *known == code);
    found.map_or(15, |(_, number)| *number)
}

pub(super) fn from_number(number: u8) -> Option<Code> {
    let found = NUMBERS.iter().find(|(_, known)| *known == number);
    found.map(|(code, _)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_of_its_own() {
        for code in Code::ALL {
            assert_eq!(from_number(to_number(code)), Some(code));
        }
        assert_eq!((from_number(0), from_number(16)), (None, None));
    }
}
