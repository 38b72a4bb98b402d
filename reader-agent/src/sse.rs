//! How do bytes of a stream become events?

/// Largest frame that is read, in bytes.
pub const FRAME_MAX: usize = 262_144;

/// One event of the stream (HTML, section 9.2.6).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub id: Option<String>,
    pub event: String,
    pub data: String,
}

#[derive(Debug, PartialEq, Eq)]
pub struct FrameTooLong;

/// Bytes in, whole frames out, however the bytes are cut.
#[derive(Default)]
pub struct Parser {
    pending: Vec<u8>,
    frame: Frame,
}

impl Parser {
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, FrameTooLong> {
        self.pending.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            frames.extend(self.line(line.trim_end_matches(['\n', '\r'])));
        }
        if self.pending.len() + self.frame.data.len() > FRAME_MAX {
            return Err(FrameTooLong);
        }
        Ok(frames)
    }

    fn line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return (!frame.data.is_empty()).then_some(frame);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.frame.id = Some(value.to_owned()),
            "event" => self.frame.event = value.to_owned(),
            "data" => {
                if !self.frame.data.is_empty() {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STREAM: &[u8] =
        b": hello\n\nid: 7\nevent: state\ndata: {\"a\":\ndata: 1}\n\n:\n\nevent:other\r\ndata:x\r\n\r\n";

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let whole = Parser::default().feed(STREAM);
        for cut in 0..STREAM.len() {
            let mut parser = Parser::default();
            let mut frames = parser.feed(&STREAM[..cut]).unwrap();
            frames.extend(parser.feed(&STREAM[cut..]).unwrap());
            assert_eq!(Ok(frames), whole, "cut at {cut}");
        }
        let frames = whole.unwrap();
        assert_eq!(frames[0].id.as_deref(), Some("7"));
        assert_eq!(frames[0].data, "{\"a\":\n1}");
        assert_eq!(frames[1].event, "other");
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut parser = Parser::default();
        let fed = (0..FRAME_MAX)
            .step_by(4096)
            .map(|_| parser.feed(&[b'x'; 4096]));
        assert!(fed.into_iter().any(|r| r == Err(FrameTooLong)) || parser.feed(b"x").is_err());
    }
}
