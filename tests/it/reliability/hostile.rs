//! Names that somebody might try, and what the contract says of them.

use super::dice::Dice;

/// Pieces of names. What is in front of it decides what a path, a shell, a log, JSON or a reader's
/// eye makes of a name.
const PIECES: [&[u8]; 72] = [
    b"../",
    b"..\\",
    b"/",
    b"//",
    b"./",
    b"....//",
    b"/..",
    b"%2e%2e%2f",
    b"..%00",
    b"%c0%ae/",
    b"/etc/passwd",
    b"/proc/self/mem",
    b"/dev/zero",
    b"\\\\host\\share",
    b"C:\\CON",
    b"NUL",
    b"file:///etc/passwd",
    b"http://169.254.169.254/",
    b"~root/",
    b"$HOME",
    b"$(id)",
    b"`id`",
    b";id;",
    b"|id",
    b"&&id",
    b"'",
    b"\"",
    b"'; DROP TABLE keys;--",
    b"{{7*7}}",
    b"${jndi:ldap://a}",
    b"%s%n%x",
    b"<script>",
    b"&amp;",
    b"=cmd|' /C calc'!A0",
    b"\0",
    b"\x01",
    b"\x07",
    b"\x1b[2J",
    b"\x7f",
    b"\r\n",
    b"\r\nbowstring-code: ok\r\n",
    b"\t",
    b" ",
    b"\xc2\x85",
    b"\xc2\x9b31m",
    b"\xe2\x80\xae",
    b"\xe2\x80\x8b",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
    b"\xf0\x9f\x8f\xb9",
    b"\xc3\xa9",
    b"e\xcc\x81",
    b"\xd0\xb0",
    b"\xef\xac\x81",
    b"\xc4\xb0",
    b"\xcc\x81\xcc\x82\xcc\x83",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xb0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff\xfe",
    b"\xc3",
    b"\\u0000",
    b"\\ud800",
    b"\"}",
    b"{\"key\":",
    b"a",
    b".",
    b"-_.",
];

/// A name out of a few pieces; `canary` is a file that must not come to be.
pub fn hostile(dice: &mut Dice, canary: &str) -> Vec<u8> {
    let mut name = Vec::new();
    match dice.below(20) {
        // At and around the limits of keys and namespaces.
        0 => {
            let length = *dice.pick(&[0, 1, 127, 128, 129, 1023, 1024, 1025, 4096, 100_000]);
            name.resize(length, *dice.pick(b"a.A\x01\xe9"));
        }
        1 => {
            let piece = *dice.pick(&["é", "ナ", "🏹", "e\u{301}"]);
            while name.len() < 1020 + dice.below(10) {
                name.extend(piece.bytes());
            }
        }
        2 => {
            name.extend(b"../".repeat(dice.below(20)));
            name.extend(canary.bytes());
        }
        3 => name = dice.bytes(8),
        // What a namespace may be called, and nobody should try to.
        4 => {
            let odd: &[&str] = &[
                ".", "..", "...", "-", "--help", "-rf", "_", "a.b", "default", "con",
            ];
            name.extend(dice.pick(odd).bytes());
        }
        _ => {
            for _ in 0..=dice.below(4) {
                let piece = *dice.pick(&PIECES);
                let times = if dice.once_in(10) {
                    1 + dice.below(200)
                } else {
                    1
                };
                name.extend(piece.repeat(times));
            }
            if dice.once_in(2) {
                name.extend(dice.below(1000).to_string().bytes());
            }
        }
    }
    name
}

/// Whether the contract takes it as a key.
pub fn is_key(name: &[u8]) -> bool {
    str::from_utf8(name).is_ok() && (1..=1024).contains(&name.len()) && !name.contains(&0)
}

/// Whether the contract takes it as a namespace.
pub fn is_namespace(name: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=128).contains(&name.len()) && name.iter().all(legal)
}

/// The inside of a JSON string that means this name, escaped more or less; the raw bytes where it is
/// no text.
pub fn as_json(dice: &mut Dice, name: &[u8]) -> Vec<u8> {
    let Ok(text) = str::from_utf8(name) else {
        // Half a pair is no text, and what JSON would have of it.
        let lone = name.starts_with(b"\xed\xa0\x80") && dice.once_in(2);
        return if lone {
            b"\\ud800".to_vec()
        } else {
            name.to_vec()
        };
    };
    let mut json = String::new();
    let all = dice.once_in(3);
    for c in text.chars() {
        let must = c == '"' || c == '\\' || c < ' ';
        if all || must {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                json.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            json.push(c);
        }
    }
    json.into_bytes()
}
