//! The opening handshake of RFC 6455 §4.2: which requests may switch to WebSocket, and the 101 that says so.

use std::io::Write;

use tungstenite::handshake::derive_accept_key;

use super::answer::{server, write_field};
use super::extensions::Agreement;
use super::fields::Fields;
use super::refusal::Refusal;

const BAD_KEY: &str =
    "The handshake is malformed: send one Sec-WebSocket-Key that is 16 bytes in base64.";

/// The `Sec-WebSocket-Key` of a proper handshake, or what the head lacks to be one.
/// Subprotocols that it offers are passed over: none is spoken here.
pub(super) fn key(fields: &Fields, http_minor_version: u8) -> Result<String, Refusal> {
    let upgrades = fields.list_contains("Connection", "upgrade")
        && fields.list_contains("Upgrade", "websocket");
    if http_minor_version < 1 || !upgrades {
        return Err(Refusal::UpgradeRequired);
    }
    if !fields
        .values("Sec-WebSocket-Version")
        .eq([b"13".as_slice()])
    {
        return Err(Refusal::WebSocketVersion);
    }
    let mut keys = fields.values("Sec-WebSocket-Key");
    match (
        keys.next().and_then(|key| std::str::from_utf8(key).ok()),
        keys.next(),
    ) {
        (Some(key), None) if is_base64_of_16_bytes(key) => Ok(key.to_owned()),
        _ => Err(Refusal::BadRequest(BAD_KEY)),
    }
}

/// The answer after which the connection is a WebSocket.
pub(super) fn switch_protocols(
    key: &str,
    agreement: Option<Agreement>,
    model: &str,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    write_field(out, "Upgrade", "websocket");
    write_field(out, "Connection", "Upgrade");
    write_field(
        out,
        "Sec-WebSocket-Accept",
        &derive_accept_key(key.as_bytes()),
    );
    if let Some(agreement) = agreement {
        write!(out, "Sec-WebSocket-Extensions: {agreement}\r\n")
            .expect("writing to memory does not fail");
    }
    write_field(out, "Server", &server(model));
    out.extend_from_slice(b"\r\n");
}

/// 16 bytes are 21 characters of 6 bits, one of 2, and two of padding.
fn is_base64_of_16_bytes(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.len() == 24
        && key
            .strip_suffix("==")
            .is_some_and(|digits| digits.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        assert!(is_base64_of_16_bytes("dGhlIHNhbXBsZSBub25jZQ=="));
        for key in [
            "",
            "==",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQA=",
            "dGhlIHNhbXBsZSBub25jZQAA",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSBub25j-_==",
            "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(!is_base64_of_16_bytes(key), "{key}");
        }
    }
}
