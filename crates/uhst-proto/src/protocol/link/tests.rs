//! Parsing of pasted links.

use proptest::prelude::*;

use super::*;

fn relay(url: &str, id: &str) -> Result<JoinLink, JoinLinkError> {
    Ok(JoinLink::new(Some(Url::parse(url).expect("a URL")), id))
}

fn bare(id: &str) -> Result<JoinLink, JoinLinkError> {
    Ok(JoinLink::new(None, id))
}

#[test]
fn a_link_survives_its_text() {
    for id in ["483920", "my game", "a+b&c=d#e%20f", "größe 🎲", "/#", " ", "\"a\"", "a/", "a~b", "(2)", "\u{200b}x"]
    {
        let link = JoinLink::new(Url::parse("http://192.168.1.5:3000/").ok(), id);
        assert_eq!(link.to_string().parse(), Ok(link));
        let link = JoinLink::new(None, id);
        assert_eq!(link.to_string().parse(), Ok(link));
    }
    assert_eq!(JoinLink::new(None, "my game").to_string(), "my game");
    assert_eq!(JoinLink::new(None, "483-920").to_string(), "#483-920");
}

#[test]
fn a_bare_id_has_no_relay() {
    for text in
        ["483920", " 483920\n", "483 920", "483-920", "483\u{2011}920", "48 39 20", "\u{feff}483920", "`483920`"]
    {
        assert_eq!(text.parse(), bare("483920"), "{text:?}");
    }
    for text in ["483920175", "483 920 175", "483-920-175", " 483\u{2011}920\u{2011}175", "48 39 20 175"] {
        assert_eq!(text.parse(), bare("483920175"), "{text:?}");
    }
    for id in ["4839-201-75", "483-920-1", "48392017"] {
        assert_eq!(id.parse(), bare(id), "{id:?}");
    }
    for id in ["0042-1818", "42-1818", "my-game", "game (2)", "it's \"fun\"", "1.5", "room:5", "👩\u{200d}🚀", "12 34"]
    {
        assert_eq!(id.parse(), bare(id), "{id:?}");
    }
    assert_eq!("#demo".parse(), bare("demo"));
    assert_eq!("“demo”".parse(), bare("demo"));
}

#[test]
fn schemes_are_read_in_any_case_and_put_in_where_they_are_missing() {
    let here = relay("http://127.0.0.1:3000/", "demo");
    for text in [
        "HTTP://127.0.0.1:3000/#demo",
        "Http://127.0.0.1:3000/#demo",
        "127.0.0.1:3000/#demo",
        "//127.0.0.1:3000/#demo",
        "127.0.0.1:3000#demo",
    ] {
        assert_eq!(text.parse(), here, "{text}");
    }
    for (text, url) in [
        ("HTTPS://Relay.Example.com/#demo", "https://relay.example.com/"),
        ("relay.example.com/#demo", "https://relay.example.com/"),
        ("relay.example.com#demo", "https://relay.example.com/"),
        ("relay.example.com:443/#demo", "https://relay.example.com/"),
        ("relay.example.com:3000/#demo", "http://relay.example.com:3000/"),
        ("relay.example.com/games?eu#demo", "https://relay.example.com/games?eu"),
        ("localhost:3000/#demo", "http://localhost:3000/"),
        ("Localhost/#demo", "http://localhost/"),
        ("my-pc:3000/#demo", "http://my-pc:3000/"),
        ("my-pc.local/#demo", "http://my-pc.local/"),
        ("192.168.1.5/#demo", "http://192.168.1.5/"),
        ("[::1]:3000/#demo", "http://[::1]:3000/"),
        ("[fd00::5]/#demo", "http://[fd00::5]/"),
    ] {
        assert_eq!(text.parse(), relay(url, "demo"), "{text}");
    }
}

#[test]
fn text_around_a_link_is_ignored() {
    let here = relay("http://127.0.0.1:3000/", "demo");
    let link = "http://127.0.0.1:3000/#demo";
    let marks = [
        "<>",
        "\"\"",
        "''",
        "``",
        "‹›",
        "«»",
        "»«",
        "„“",
        "“”",
        "‘’",
        "()",
        "  ",
        "\u{feff}\u{200b}",
        "\u{a0}\u{2060}",
    ];
    for marks in marks {
        let (open, close) = (marks.chars().next().expect("two"), marks.chars().next_back().expect("two"));
        for text in [
            format!("{open}{link}{close}"),
            format!("{open}{link}"),
            format!("{link}{close}"),
            format!(" {open} {link} {close}\r\n"),
        ] {
            assert_eq!(text.parse(), here, "{text:?}");
        }
        let text = format!("{open}127.0.0.1:3000/#demo{close}");
        assert_eq!(text.parse(), here, "{text:?}");
    }
    for text in [
        "http://127.0.0.1:3000/#demo/",
        "http://127.0.0.1:3000/# demo",
        "http://127.0.0.1:3000/ #demo",
        "http://127.0.0.1:3000/\r\n#demo",
        "http://127.0.0.1:3000/#de\u{200b}mo",
        "http://127.0.0.1:3000/%23demo",
        "Join me: http://127.0.0.1:3000/#demo!",
        "come (http://127.0.0.1:3000/#demo) now",
        "[the game](http://127.0.0.1:3000/#demo)",
    ] {
        assert_eq!(text.parse(), here, "{text:?}");
    }
}

#[test]
fn ids_of_links_are_percent_encoded() {
    let link = "http://127.0.0.1:3000/#gr%C3%B6%C3%9Fe%20%F0%9F%8E%B2%231".parse();
    assert_eq!(link, relay("http://127.0.0.1:3000/", "größe 🎲#1"));
    assert_eq!("http://127.0.0.1:3000/#größe 🎲".parse(), relay("http://127.0.0.1:3000/", "größe 🎲"));
    assert_eq!("http://127.0.0.1:3000/#a%2Fb".parse(), relay("http://127.0.0.1:3000/", "a/b"));
    assert!(matches!("http://127.0.0.1:3000/#%ff".parse::<JoinLink>(), Err(JoinLinkError::BadId(_))));
}

fn key() -> KeyHash {
    crate::protocol::PublicKey::from_bytes([7; 32]).hash()
}

#[test]
fn a_link_carries_a_key() {
    let key = key();
    let link = JoinLink::new(Url::parse("http://192.168.1.5:3000/").ok(), "483920").with_key(key);
    let text = link.to_string();
    assert_eq!(text, format!("http://192.168.1.5:3000/#483920~{key}"));
    for text in [
        text.clone(),
        format!("192.168.1.5:3000/#483920~{key}"),
        format!("Join me: <{text}>!"),
        format!("http://192.168.1.5:3000/%23483920~{key}"),
        format!("{text}/"),
        text.replace('~', "%7E"),
        text.replace('#', "%23").replace('~', "%7e"),
    ] {
        assert_eq!(text.parse(), Ok(link.clone()), "{text}");
    }
    let bare = JoinLink::new(None, "483920").with_key(key);
    for text in [format!("#483920~{key}"), format!("483920~{key}"), format!("483-920~{key}")] {
        assert_eq!(text.parse(), Ok(bare.clone()), "{text}");
    }
    assert_eq!("483920".parse::<JoinLink>().map(|link| link.key()), Ok(None));
}

/// A relay would gain from a link without its key.
#[test]
fn a_link_with_a_damaged_key_pins_nothing_else_and_is_an_error() {
    let text = format!("http://192.168.1.5:3000/#483920~{}", key());
    for end in text.len() - 22..text.len() {
        assert_eq!(text[..end].parse::<JoinLink>(), Err(JoinLinkError::BadKey), "{}", &text[..end]);
    }
    for text in [format!("{text}A"), format!("{text}~"), text.replace('~', "~~"), format!("#a~{}~{}", key(), key())] {
        assert_eq!(text.parse::<JoinLink>(), Err(JoinLinkError::BadKey), "{text}");
    }
    assert_eq!(format!("http://192.168.1.5:3000/#~{}", key()).parse::<JoinLink>(), Err(JoinLinkError::NoId));
    assert_eq!("my~game".parse::<JoinLink>(), bare("my~game"));
    // As a code without its relay, too.
    let text = format!("483920~{}", key());
    for end in text.len() - 22..text.len() {
        assert_eq!(text[..end].parse::<JoinLink>(), Err(JoinLinkError::BadKey), "{}", &text[..end]);
    }
    let text = format!("my-game~{}", key());
    assert_eq!(text[..text.len() - 1].parse::<JoinLink>(), Err(JoinLinkError::BadKey));
    assert_eq!(format!("{text}A").parse::<JoinLink>(), Err(JoinLinkError::BadKey));
}

#[test]
fn a_link_without_a_session_is_an_error() {
    for text in ["", "  ", "\u{200b}", "\"\"", "<>"] {
        assert_eq!(text.parse::<JoinLink>(), Err(JoinLinkError::Empty), "{text:?}");
    }
    for text in [
        "http://192.168.1.5:3000/",
        "http://192.168.1.5:3000/#",
        "http://192.168.1.5:3000/#/",
        "192.168.1.5:3000/",
        "192.168.1.5:3000",
        "192.168.1.5",
        "localhost:3000",
        "relay.example.com/",
        "#",
    ] {
        assert_eq!(text.parse::<JoinLink>(), Err(JoinLinkError::NoId), "{text:?}");
    }
    for text in ["http://#1", "http://[::1/#1", "http://a b/#1", "http:///#x y"] {
        assert!(matches!(text.parse::<JoinLink>(), Err(JoinLinkError::BadUrl(_))), "{text:?}");
    }
    for text in [
        "htp:/foo bar#1",
        "ftp://a/#b",
        "javascript:alert(1)#x",
        "file:///etc/passwd#x",
        "httphttp://127.0.0.1/#x",
        "a/b",
        "größe 🎲#1",
        "mailto:a@b.example#x",
        "user@relay.example.com/#x",
        "127.0.0.1:99999/#x",
    ] {
        let parsed = text.parse::<JoinLink>();
        assert!(matches!(parsed, Err(JoinLinkError::NotALink(_))), "{text:?}: {parsed:?}");
    }
    for text in ["http://a/#x/y", "http://a/#x#y", "http://a/#xhttp://a/#x"] {
        assert!(matches!(text.parse::<JoinLink>(), Err(JoinLinkError::BadId(_))), "{text:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_shown_is_read_back(id in "\\PC{1,20}|[ /#%'\"<>()0-9a-z.:~-]{1,12}|\\p{Any}{1,8}", named: bool, keyed: bool) {
        let relay = named.then(|| Url::parse("https://relay.example.com:3000/games?eu=1").expect("a URL"));
        let link = JoinLink::new(relay, id).with_key(keyed.then(key));
        prop_assert_eq!(link.to_string().parse(), Ok(link));
    }

    #[test]
    fn no_text_makes_it_panic_and_no_id_comes_from_a_mangled_link(
        text in "\\PC*|[htps:/#~\\[\\]@%23a-c.<>\"' \u{200b}]{0,30}|\\p{Any}*",
    ) {
        if let Ok(JoinLink { relay: None, id, .. }) = text.parse::<JoinLink>()
            && !text.contains('%')
        {
            prop_assert!(!id.contains(['/', '#']), "{}", id);
            prop_assert!(!id.is_empty());
        }
    }
}
