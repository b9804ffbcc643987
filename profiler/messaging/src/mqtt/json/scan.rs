//! Walks over the members of one JSON object, strictly by RFC 8259, keeping nothing.

/// A bracket within which a value stands.
#[derive(Clone, Copy, PartialEq)]
enum Bracket {
    Object,
    Array,
}

/// How deep values may stand within the outermost object.
const DEPTH: usize = 128;

/// A walk over an object's members.
pub(super) struct Scan<'p> {
    payload: &'p [u8],
    position: usize,
    /// Whether a member was seen.
    begun: bool,
}

/// A member as it is written: the key without its quotes, the value with them.
pub(super) struct Member<'p> {
    pub(super) key: &'p [u8],
    pub(super) value: &'p [u8],
}

impl<'p> Scan<'p> {
    /// Behind the opening brace; `None` if the payload is too large or begins with something else.
    pub(super) fn of(payload: &'p [u8]) -> Option<Self> {
        if payload.len() > super::LARGEST {
            return None;
        }
        let mut scan = Self { payload, position: 0, begun: false };
        scan.blanks();
        scan.expect(b'{')?;
        Some(scan)
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next member, or `Some(None)` behind the closing brace; `None` if the payload is no JSON here.
    pub(super) fn member(&mut self) -> Option<Option<Member<'p>>> {
        self.blanks();
        if self.peek() == Some(b'}') {
            self.position += 1;
            // Not after a comma, of which the walk below takes care.
            return Some(None);
        }
        if self.begun {
            self.expect(b',')?;
            self.blanks();
        }
        self.begun = true;
        let key = self.string()?;
        self.colon()?;
        let start = self.position;
        self.value()?;
        Some(Some(Member { key, value: &self.payload[start..self.position] }))
    }

    /// Whether nothing but blanks follows.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.blanks();
        self.position == self.payload.len()
    }

    fn peek(&self) -> Option<u8> {
        self.payload.get(self.position).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.position += 1)
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.position += 1;
        }
    }

    fn colon(&mut self) -> Option<()> {
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Some(())
    }

    /// Passes one value of any kind.
    fn value(&mut self) -> Option<()> {
        let mut open = [Bracket::Array; DEPTH];
        let mut depth = 0;
        loop {
            self.blanks();
            // A value begins here.
            let opened = match self.peek()? {
                b'{' => Some(Bracket::Object),
                b'[' => Some(Bracket::Array),
                b'"' => {
                    self.string()?;
                    None
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            };
            if let Some(bracket) = opened {
                *open.get_mut(depth)? = bracket;
                depth += 1;
                self.position += 1;
                self.blanks();
                if self.peek()? != closing(bracket) {
                    if bracket == Bracket::Object {
                        self.string()?;
                        self.colon()?;
                    }
                    continue;
                }
            }
            // A value has ended, or an empty bracket waits to be closed: go up as far as brackets close.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.blanks();
                let bracket = open[depth - 1];
                if self.peek()? == closing(bracket) {
                    self.position += 1;
                    depth -= 1;
                    continue;
                }
                self.expect(b',')?;
                self.blanks();
                if bracket == Bracket::Object {
                    self.string()?;
                    self.colon()?;
                }
                break;
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<Option<Bracket>> {
        self.payload[self.position..].starts_with(word).then(|| {
            self.position += word.len();
            None
        })
    }

    fn number(&mut self) -> Option<Option<Bracket>> {
        let _ = self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if self.expect(b'e').or_else(|| self.expect(b'E')).is_some() {
            let _ = self.expect(b'+').or_else(|| self.expect(b'-'));
            self.digits()?;
        }
        Some(None)
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.position;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.position += 1;
        }
        (self.position > start).then_some(())
    }

    /// What stands between the quotes, as it is written.
    fn string(&mut self) -> Option<&'p [u8]> {
        self.expect(b'"')?;
        let start = self.position;
        let mut is_ascii = true;
        loop {
            let byte = self.peek()?;
            self.position += 1;
            match byte {
                b'"' => break,
                b'\\' => self.escape()?,
                0..0x20 => return None,
                _ => is_ascii &= byte.is_ascii(),
            }
        }
        let text = &self.payload[start..self.position - 1];
        (is_ascii || std::str::from_utf8(text).is_ok()).then_some(text)
    }

    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.position += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.payload.get(self.position..self.position + 4)?;
                self.position += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }
}

fn closing(bracket: Bracket) -> u8 {
    match bracket {
        Bracket::Object => b'}',
        Bracket::Array => b']',
    }
}
