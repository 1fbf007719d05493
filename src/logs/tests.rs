use proptest::prelude::*;

use super::*;

/// A log as on the wire, with a field that this build does not know at the top and in `result`.
const WIRE: &str = concat!(
    r#"{"v":1,"uid":"0193a5c0-1b2c-7d3e-8f40-5a6b7c8d9e0f","agent":"edge-01","boot":"0193a5c0-0000-7000-8000-000000000001","#,
    r#""seq":42,"label":"shop","kind":"http","target":"https://shop.example.com/health","due_at":"2026-11-24T10:00:00.000000Z","#,
    r#""started_at":"2026-11-24T10:00:00.000090Z","ended_at":"2026-11-24T10:00:00.051324Z","duration_us":51234,"#,
    r#""interval_ms":10000,"verdict":"up","phase":null,"reason":null,"#,
    r#""result":{"bytes":5123,"colour":"blue","status_code":200},"mood":{"cheerful":true}}"#
);

#[test]
fn a_uid_carries_the_milliseconds_it_was_made_for() {
    let at = Timestamp::parse("2026-11-24T10:00:00.987654Z").unwrap();
    let (seconds, nanos) = uid_at(at).get_timestamp().unwrap().to_unix();
    assert_eq!((seconds * 1_000 + u64::from(nanos) / 1_000_000, uid_at(at).get_version_num()), (at.as_millis(), 7));
}

#[test]
fn an_older_version_hands_on_what_it_does_not_know() {
    let log = Log::from_json(WIRE.as_bytes()).unwrap();
    assert_eq!(log.unknown_fields["mood"]["cheerful"], true);
    assert_eq!(String::from_utf8(log.to_json()).unwrap(), WIRE);
}

#[test]
fn what_is_no_log_says_why() {
    let with = |from: &str, to: &str| WIRE.replacen(from, to, 1);
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let long = |most: usize| "x".repeat(most + 1);
    for (name, bytes, reason) in [
        ("newer", with(r#""v":1"#, r#""v":2"#), "made by a newer Pingeon: v 2"),
        ("newer and other", r#"{"uid":7,"v":3}"#.to_owned(), "made by a newer Pingeon: v 3"),
        ("no version", with(r#""v":1,"#, ""), "missing field `v`"),
        ("no uid", with(r#""uid":"0193a5c0-1b2c-7d3e-8f40-5a6b7c8d9e0f","#, ""), "missing field `uid`"),
        ("uid v4", with("7d3e", "4d3e"), "is not a UUIDv7"),
        ("boot v4", with("7000", "4000"), "is not a UUIDv7"),
        ("year", with("2026-11-24T10:00:00.0000", "12026-11-24T10:00:00.0000"), "is not a time"),
        ("before 1970", with("2026-11-24T10:00:00.0000", "1926-11-24T10:00:00.0000"), "is not a time"),
        ("twice", with(r#""seq":42"#, r#""seq":42,"seq":43"#), "duplicate field `seq`"),
        ("label", with("shop", &long(LABEL_BYTES_MAX)), "label of 201 bytes, at most 200"),
        ("no label", with(r#""label":"shop""#, r#""label":"""#), "label is empty"),
        ("agent", with("edge-01", &long(AGENT_BYTES_MAX)), "agent of 256 bytes, at most 255"),
        ("kind", with(r#":"http""#, &format!(":\"{}\"", long(KIND_BYTES_MAX))), "kind of 65 bytes, at most 64"),
        ("target", with("https://", &long(TARGET_BYTES_MAX)), "target of 2072 bytes, at most 2048"),
        ("seq", with(r#""seq":42"#, r#""seq":9223372036854775808"#), "seq 9223372036854775808 is too large"),
        ("interval", with("10000", "0"), "interval_ms is 0"),
        ("verdict", with(r#""up""#, r#""sideways""#), "unknown variant `sideways`"),
        ("too long", " ".repeat(LOG_BYTES_MAX + 1), "are too long for a log"),
        ("cut off", WIRE[..200].to_owned(), "EOF while parsing"),
        ("nested", with(r#""blue""#, &nested(100_000)), "more than 127 deep"),
        ("nested elsewhere", with("true", &nested(100_000)), "recursion limit exceeded"),
        ("no object", "[1]".to_owned(), "expected a log"),
        ("text", "hello".to_owned(), "expected value"),
    ] {
        let error = Log::from_json(bytes.as_bytes()).expect_err(name);
        assert!(error.contains(reason), "{name}: {error}");
    }
}

#[test]
fn a_text_is_cut_between_characters() {
    for (text, most, expect) in [("abc", 5, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("é", 1, ""), ("", 0, "")] {
        assert_eq!(cut(text, most), expect);
    }
}

#[test]
fn a_result_keeps_what_fits_and_names_the_rest() {
    let small: Map<String, Value> = [("status_code".to_owned(), 200.into())].into_iter().collect();
    assert_eq!(bounded(small.clone()), small);

    let mut large = small;
    large.insert("page".to_owned(), "x".repeat(2 * RESULT_BYTES_MAX).into());
    large.insert("text".to_owned(), "y".into());
    let kept = bounded(large);
    assert_eq!(kept["left_out"], serde_json::json!(["page"]));
    assert_eq!((&kept["status_code"], &kept["text"]), (&200.into(), &"y".into()));

    let many = (0..100_000).map(|n| (format!("{n:01000}"), Value::Null)).collect();
    assert!(serde_json::to_vec(&bounded(many)).unwrap().len() <= RESULT_BYTES_MAX);
}

#[test]
fn the_strain_is_kept_however_full_the_result_is() {
    let full: Map<String, Value> =
        [("a".to_owned(), Value::from("x".repeat(RESULT_BYTES_MAX - RUN_BYTES - 7)))].into_iter().collect();
    let most = Some(u64::MAX);
    let strain = Strain { late_us: most, queued_us: most, running: Some(u32::MAX), starved_us: most };
    let result = Object::from(&with_run(bounded(full.clone()), &strain));
    assert!(result.as_str().len() <= RESULT_BYTES_MAX && result.as_str().len() > full["a"].as_str().unwrap().len());
    let log = Log { result, ..Log::from_json(WIRE.as_bytes()).unwrap() };
    assert_eq!((log.strain(), Log::from_json(WIRE.as_bytes()).unwrap().strain()), (Some(strain), None));
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "\\PC{1,20}".prop_map(Arc::from)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.as_micros()).prop_map(Timestamp::from_micros)
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn fields(names: &'static str) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(names, json(), 0..4).prop_map(Map::from_iter)
}

fn phase() -> impl Strategy<Value = Option<Phase>> {
    prop::option::of(prop::sample::select(&Phase::TIMED[..]))
}

prop_compose! {
    /// Any log that an agent may write.
    pub(crate) fn any_log()(
        (due_at, boot, seq, agent, label, kind, target) in (time(), time(), 0..=wire::NUMBER_MAX, text(), text(), text(), text()),
        (started_at, ended_at) in (prop::option::of(time()), prop::option::of(time())),
        (duration_us, interval_ms) in (prop::option::of(0..=wire::NUMBER_MAX), 1..=wire::INTERVAL_MS_MAX),
        verdict in prop::sample::select(&Verdict::ALL[..]),
        (phase, reason) in (phase(), prop::option::of(text())),
        (result, unknown_fields) in (fields(".{0,8}"), fields("x_[a-z]{0,8}")),
    ) -> Log {
        Log {
            v: VERSION, uid: uid_at(due_at), boot: uid_at(boot), agent, seq, label, kind, target, due_at, started_at, ended_at,
            duration_us, interval_ms, verdict, phase, reason, result: Object::from(&result), unknown_fields,
        }
    }
}

proptest! {
    #[test]
    fn any_log_reads_as_it_was_written(log in any_log()) {
        prop_assert_eq!(Log::from_json(&log.to_json()), Ok(log));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..WIRE.len()) {
        let _ = Log::from_json(&bytes);
        // Also bytes that are nearly a log.
        let mut near = WIRE.as_bytes().to_vec();
        near.splice(at..at, bytes);
        let _ = Log::from_json(&near);
    }
}
