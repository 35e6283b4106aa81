//! A question before what cannot be undone.

use std::io::{IsTerminal as _, stderr, stdin};

use crate::Error;

/// True where the person says yes. `what` is the question: `delete all of it?`.
///
/// # Errors
/// [`Error::Usage`] where there is nobody to ask.
pub fn confirmed(what: &str) -> Result<bool, Error> {
    if !(stdin().is_terminal() && stderr().is_terminal()) {
        return Err(Error::Usage(format!(
            "nobody can be asked here: say --yes, or run it in a terminal; question=`{what}`"
        )));
    }
    eprint!("{what} [y/N] ");
    let mut answer = String::new();
    // Who cannot be heard did not say yes.
    let _ = stdin().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
