//! What a process prints and says, read by threads, so that it never waits for us.

use std::io::{BufRead as _, BufReader, Read};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Of a server that talks too much, the beginning is kept.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// The lines that a server prints, as they come. Read to the end, so that it never blocks.
pub fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody waits for lines any more.
            let _ = sender.send(line);
        }
    });
    lines
}

/// What a server says, collected by a thread.
#[derive(Debug)]
pub struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    /// Collects what comes out of `stream`.
    pub fn of(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < OUTPUT_BYTES_MAX {
                    kept.extend_from_slice(&piece[..n]);
                }
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    /// What there is of it.
    pub fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// All of it, once the process has ended.
    pub fn joined(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.text()
    }
}
