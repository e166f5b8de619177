//! Some hundreds of texts: every kind of content in every shape, and extremes.

/// What a text may be made of.
const KINDS: [&str; 44] = [
    "x",
    "é",
    "\u{301}",
    "🕯",
    "👩‍👩‍👧‍👦🏽",
    "🇩🇪🇫",
    "\u{0}",
    "\u{feff}",
    "\u{200b}\u{200d}\u{ad}",
    "\u{202e}abc\u{202c}",
    "שלום",
    "مرحبا",
    "日本語",
    "ไทย",
    "한국어",
    "नमस्ते",
    "\u{fffd}\u{fffe}",
    "\u{10ffff}",
    "\u{e000}",
    "\n",
    "\t \u{a0}\u{2003}",
    "\r\n\u{b}\u{c}\u{85}\u{2028}",
    "'\"\\/\u{8}",
    "<b>&amp;</b>",
    "[CLS] [SEP] [PAD] [UNK]",
    "[MASK]",
    "<s></s><pad><unk><mask>",
    "<extra_id_0> <0x0A>",
    "##ing",
    "Ġ▁",
    "{}",
    "{\"inputs\": 1}",
    "null",
    "-1e999",
    "....",
    "?!",
    "a-b_c/d\\e",
    "1234567890",
    "½ ² ﬁ",
    "İıſK",
    "ẞ SS",
    "ＦＵＬＬ",
    "e\u{301}\u{301}\u{301}\u{301}",
    "%s %n $(x) `y`",
];

/// All texts, none twice.
pub(crate) fn all() -> Vec<String> {
    let mut texts = vec![String::new(), " ".into()];
    for kind in KINDS {
        texts.extend([
            kind.to_owned(),
            format!("{kind} {kind}"),
            format!("The candle{kind}stands {kind} in the hall{kind}"),
            format!("{kind}\u{200f}{kind}candle. "),
            kind.repeat(120),
        ]);
    }
    texts.push("candle ".repeat(10_000));
    texts.push("x".repeat(100_000));
    texts.push((1..0x300).filter_map(char::from_u32).collect());
    texts.push((0x1f300..0x1f400).filter_map(char::from_u32).collect());
    texts.extend((1..=16).map(random));
    texts
}

/// Up to forty code points from all planes.
fn random(seed: u32) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let len = 1 + next() % 40;
    (0..len)
        .filter_map(|_| char::from_u32(next() % 0x11_0000))
        .collect()
}
