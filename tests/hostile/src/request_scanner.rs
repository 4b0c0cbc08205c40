//! The heads of the requests that pass on a connection, in HTTP/1.1.

use memchr::memmem;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// Reads the heads of the requests on one connection.
#[derive(Debug, Default)]
pub(crate) struct RequestScanner {
    head: Vec<u8>,
    body_remaining: u64,
}

impl RequestScanner {
    /// Reads the next bytes. Returns false at a head that announces more than the limit.
    pub(crate) fn accepts(
        &mut self,
        piece: &[u8],
        body_bytes_max: Option<u64>,
    ) -> anyhow::Result<bool> {
        let mut rest = piece;
        while !rest.is_empty() {
            let of_body = self.body_remaining.min(rest.len() as u64);
            self.body_remaining -= of_body;
            rest = &rest[usize::try_from(of_body)?..];
            let searched = self.head.len().saturating_sub(HEAD_END.len());
            let scanned = self.head.len();
            self.head.extend_from_slice(rest);
            let Some(end) = memmem::find(&self.head[searched..], HEAD_END) else {
                anyhow::ensure!(self.head.len() <= HEAD_BYTES_MAX, "a head without an end");
                return Ok(true);
            };
            let end = searched + end + HEAD_END.len();
            self.body_remaining = body_length(&self.head[..end]);
            rest = &rest[end - scanned..];
            self.head.clear();
            if body_bytes_max.is_some_and(|limit| self.body_remaining > limit) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Returns the length of the body that a head announces, which is unlimited for a body in chunks.
fn body_length(head: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(head);
    let values = text.lines().filter_map(|line| line.split_once(':'));
    for (name, value) in values {
        if name.eq_ignore_ascii_case("content-length") {
            return value.trim().parse().unwrap_or_default();
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return u64::MAX;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: usize) -> Vec<u8> {
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {body}\r\n\r\n");
        [head.into_bytes(), vec![b'?'; body]].concat()
    }

    #[test]
    fn scanner_finds_requests_in_pieces_of_any_size() {
        let bytes = [request(0), request(7), request(3), request(101)].concat();
        for size in [1, 2, 5, 50, bytes.len()] {
            let mut scanner = RequestScanner::default();
            let refused_at = bytes
                .chunks(size)
                .position(|piece| !scanner.accepts(piece, Some(100)).unwrap());
            let last_head = bytes.len() - 101;
            assert_eq!(refused_at, Some((last_head - 1) / size), "{size}");
        }
    }
}
