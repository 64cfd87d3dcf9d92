//! Names and texts: what is trimmed, what is cut, and that everything else comes back as it was sent.

use serde_json::json;

use crate::client::Client;
use crate::harness::Program;

conformance! {
    a_name_over_50_is_cut,
    white_space_is_trimmed_at_the_ends_only,
    what_python_strips_is_blank,
    every_script_and_control_character_comes_back,
}

/// Says something and returns the name and text that are broadcast.
fn as_broadcast(client: &mut Client, name: &str, text: &str) -> (String, String) {
    client.say(name, text);
    let message = client.next_json();
    let field = |key: &str| {
        message[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} of {message}"))
            .to_owned()
    };
    (field("name"), field("text"))
}

fn a_name_over_50_is_cut(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for letter in ["a", "ế", "🦀", "م"] {
        let longest = letter.repeat(50);
        assert_eq!(as_broadcast(&mut client, &longest, "50").0, longest);
        assert_eq!(
            as_broadcast(&mut client, &format!("{longest}b"), "51").0,
            longest
        );
        assert_eq!(
            as_broadcast(&mut client, &letter.repeat(500), "500").0,
            longest
        );
        assert_eq!(
            as_broadcast(&mut client, &format!("  {longest}  "), "50 and spaces").0,
            longest
        );
    }
    let combined = "e\u{301}".repeat(25);
    assert_eq!(
        as_broadcast(&mut client, &combined, "marks count").0,
        combined
    );
    assert_eq!(
        as_broadcast(&mut client, &format!("a{combined}"), "cut between").0,
        format!("a{}e", "e\u{301}".repeat(24))
    );
}

fn white_space_is_trimmed_at_the_ends_only(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for space in [
        " ", "\t", "\n", "\r\n", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{1f}",
        "\u{85}", "\u{a0}", "\u{1680}", "\u{2003}", "\u{2028}", "\u{2029}", "\u{202f}", "\u{205f}",
        "\u{3000}",
    ] {
        let (name, text) = (
            format!("Al{space}ice"),
            format!("Hello{space}{space}everyone"),
        );
        let padded = (
            format!("{space}{name}{space}"),
            format!("{space}{space}{text}{space}"),
        );
        assert_eq!(
            as_broadcast(&mut client, &padded.0, &padded.1),
            (name, text)
        );
    }
}

fn what_python_strips_is_blank(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    for (name, text) in [
        ("Alice", "\u{1c}"),
        ("Alice", "\u{1d} \u{1e}\t\u{1f}"),
        ("\u{1f}", "Hello"),
    ] {
        client.say(name, text);
        assert_eq!(client.next_json()["code"], "empty", "{name:?} {text:?}");
    }
    // Neither is white space to Python, nor here.
    for kept in ["\u{1b}", "\u{200b}", "\u{feff}", "\u{180e}"] {
        assert_eq!(as_broadcast(&mut client, kept, kept).1, kept);
    }
}

fn every_script_and_control_character_comes_back(program: Program) {
    let server = program.start("--chat-interval 0s");
    let mut client = server.join();
    let mut bystander = server.join();
    assert_eq!(client.next_json()["code"], "joined");
    let texts = [
        "a\0b",
        "\u{1}\u{8}\u{1b}[31m\u{7f}x",
        "\"quotes\" and \\ and </script>",
        "👩‍👩‍👧‍👦 🇻🇳 🦀\u{fe0f}",
        "e\u{301}\u{323}\u{302}\u{31b} Z\u{351}\u{36b}\u{343}",
        "שלום עולם",
        "\u{202e}evil\u{202c} مرحبا\u{200f}!",
        "\u{feff}not a mark\u{200b}",
        "\u{e000}\u{fffd}\u{ffff}\u{10ffff}",
        "một\u{2028}hai\u{2029}ba\u{85}bốn",
    ];
    for text in texts {
        let expected = (text.to_owned(), text.to_owned());
        assert_eq!(as_broadcast(&mut client, text, text), expected);
        assert_eq!(bystander.next_json()["text"], text);
    }
    let escaped =
        "{\"type\":\"chat\",\"name\":\"\\u0000\\u00e9\\uD83E\\uDD80\",\"text\":\"/\\u2028\\/\\b\"}";
    client.text(escaped);
    let message = client.next_json();
    assert_eq!(
        (&message["name"], &message["text"]),
        (&json!("\0é🦀"), &json!("/\u{2028}/\u{8}"))
    );
}
