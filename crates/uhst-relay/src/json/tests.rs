use super::*;

fn rewritten(text: &str) -> Result<String, NotJson> {
    let mut out = Vec::new();
    rewrite(text, &mut out)?;
    Ok(String::from_utf8(out).expect("JSON is text"))
}

#[test]
fn json_is_rewritten_as_in_javascript() {
    for (text, expected) in [
        (" { \"a\" : [ 1 , 2 ] }\r\n\t", r#"{"a":[1,2]}"#),
        ("{}", "{}"),
        ("[ ]", "[]"),
        (r#"[1.0,1e3,-0,0,-0.0,1e400,-1e400]"#, r#"[1,1000,0,0,0,null,null]"#),
        (r#"[9007199254740993,123456789012345,0.5,1E-7]"#, r#"[9007199254740992,123456789012345,0.5,1e-7]"#),
        (r#"[12345678901234567890123]"#, r#"[1.2345678901234568e+22]"#),
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
        (r#"{"b":1,"2":2,"a":3,"1":4,"01":5,"10":6}"#, r#"{"1":4,"2":2,"10":6,"b":1,"a":3,"01":5}"#),
        (r#"{"4294967295":1,"4294967294":2,"-1":3}"#, r#"{"4294967294":2,"4294967295":1,"-1":3}"#),
        (r#"{"a":{"x":1,"x":[{"1":0,"0":1}]},"0":true}"#, r#"{"0":true,"a":{"x":[{"0":1,"1":0}]}}"#),
        (r#"["\/","\u002f","\u0041","\"\\\b\f\n\r\t"]"#, r#"["/","/","A","\"\\\b\f\n\r\t"]"#),
        (r#"["\u0000\u001F\u0008\u0022\u005c\u007f"]"#, "[\"\\u0000\\u001f\\b\\\"\\\\\u{7f}\"]"),
        ("[\"größe 🎲 \u{2028}\"]", "[\"größe 🎲 \u{2028}\"]"),
        (r#"["\u2028\ud83c\udfb2"]"#, "[\"\u{2028}🎲\"]"),
        (r#"["\uD800","\udc00\ud800","\ud800\ud83c\udfb2"]"#, "[\"\\ud800\",\"\\udc00\\ud800\",\"\\ud800🎲\"]"),
        (r#"["\ud800x\u0041","\ud800\n"]"#, r#"["\ud800xA","\ud800\n"]"#),
        (
            r#"{"__proto__":1,"responseToken":"x","eventType":"host_closed"}"#,
            r#"{"__proto__":1,"responseToken":"x","eventType":"host_closed"}"#,
        ),
        (r#"[true,false,null]"#, r#"[true,false,null]"#),
    ] {
        assert_eq!(rewritten(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn invalid_json_is_refused() {
    for text in [
        "",
        " ",
        "1",
        "\"text\"",
        "null",
        "false",
        "{",
        "[",
        "{]",
        "[}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\":}",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[-]",
        "[1e]",
        "[nul]",
        "[tru",
        "[\"",
        "[\"\\",
        "[\"\\x\"]",
        "[\"\\u12\"]",
        "[\"\\u12g4\"]",
        "[\"\\ud800\\u12\"]",
        "[\"\n\"]",
        "[\"\u{0}\"]",
        "{} {}",
        "{}x",
        "[1 2]",
        "['a']",
        "[NaN]",
        "\u{feff}{}",
    ] {
        assert_eq!(rewritten(text), Err(NotJson), "{text:?}");
    }
}

#[test]
fn many_members_keep_their_order() {
    let members: Vec<_> = (0..100).map(|n| format!("\"k{n}\":{n}")).collect();
    let plain = format!("{{{}}}", members.join(","));
    assert_eq!(rewritten(&plain).as_deref(), Ok(plain.as_str()));
    let twice = format!("{{{},\"k0\":true}}", members.join(","));
    assert_eq!(rewritten(&twice), Ok(plain.replace("\"k0\":0", "\"k0\":true")));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(rewritten(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(rewritten(&nested(MAX_DEPTH + 1)), Err(NotJson));
    assert_eq!(rewritten(&"[".repeat(100_000)), Err(NotJson));
    assert_eq!(rewritten(&"{\"a\":".repeat(100_000)), Err(NotJson));
}
