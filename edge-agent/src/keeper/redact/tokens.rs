//! Secrets that show by themselves what they are: a prefix, then so many characters of a kind.

/// Characters a token is made of behind its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Capital letters and digits.
    Upper,
    /// Hexadecimal digits.
    Hex,
    /// Letters and digits.
    Alnum,
    /// Letters, digits, `_` and `-`.
    Url,
    /// These and `.`.
    Dotted,
    /// These and `/`, `+`, `=`.
    Base64,
}

impl Alphabet {
    /// Whether a byte belongs to it.
    #[must_use]
    pub fn has(self, byte: u8) -> bool {
        let alnum = byte.is_ascii_alphanumeric();
        match self {
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Alnum => alnum,
            Self::Url => alnum || matches!(byte, b'_' | b'-'),
            Self::Dotted => alnum || matches!(byte, b'_' | b'-' | b'.'),
            Self::Base64 => alnum || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'+' | b'='),
        }
    }
}

/// One kind of token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub prefix: &'static [u8],
    pub alphabet: Alphabet,
    /// Characters behind the prefix at least.
    pub least: usize,
    pub kind: &'static str,
}

const fn token(
    prefix: &'static str,
    alphabet: Alphabet,
    least: usize,
    kind: &'static str,
) -> Token {
    Token { prefix: prefix.as_bytes(), alphabet, least, kind }
}

/// Of two that fit, the first counts.
#[rustfmt::skip]
pub const TOKENS: &[Token] = &[
    token("AKIA", Alphabet::Upper, 16, "aws"),
    token("ASIA", Alphabet::Upper, 16, "aws"),
    token("ABIA", Alphabet::Upper, 16, "aws"),
    token("ACCA", Alphabet::Upper, 16, "aws"),
    token("AIza", Alphabet::Url, 30, "google"),
    token("ya29.", Alphabet::Dotted, 20, "google"),
    token("GOCSPX-", Alphabet::Url, 20, "google"),
    token("1//0", Alphabet::Url, 30, "google"),
    token("ghp_", Alphabet::Alnum, 30, "github"),
    token("gho_", Alphabet::Alnum, 30, "github"),
    token("ghu_", Alphabet::Alnum, 30, "github"),
    token("ghs_", Alphabet::Alnum, 30, "github"),
    token("ghr_", Alphabet::Alnum, 30, "github"),
    token("github_pat_", Alphabet::Url, 22, "github"),
    token("glpat-", Alphabet::Dotted, 20, "gitlab"),
    token("gldt-", Alphabet::Dotted, 20, "gitlab"),
    token("glrt-", Alphabet::Dotted, 20, "gitlab"),
    token("glptt-", Alphabet::Dotted, 20, "gitlab"),
    token("glcbt-", Alphabet::Dotted, 20, "gitlab"),
    token("gloas-", Alphabet::Dotted, 20, "gitlab"),
    token("glsoat-", Alphabet::Dotted, 20, "gitlab"),
    token("xoxb-", Alphabet::Url, 10, "slack"),
    token("xoxp-", Alphabet::Url, 10, "slack"),
    token("xoxa-", Alphabet::Url, 10, "slack"),
    token("xoxr-", Alphabet::Url, 10, "slack"),
    token("xoxs-", Alphabet::Url, 10, "slack"),
    token("xoxe-", Alphabet::Dotted, 10, "slack"),
    token("xoxe.", Alphabet::Dotted, 10, "slack"),
    token("xapp-", Alphabet::Url, 10, "slack"),
    token("hooks.slack.com/services/", Alphabet::Base64, 20, "slack"),
    token("sk_live_", Alphabet::Alnum, 16, "stripe"),
    token("sk_test_", Alphabet::Alnum, 16, "stripe"),
    token("rk_live_", Alphabet::Alnum, 16, "stripe"),
    token("rk_test_", Alphabet::Alnum, 16, "stripe"),
    token("whsec_", Alphabet::Base64, 16, "stripe"),
    token("sk-ant-", Alphabet::Url, 16, "anthropic"),
    token("sk-or-", Alphabet::Url, 16, "openrouter"),
    token("sk-proj-", Alphabet::Url, 16, "openai"),
    token("sk-svcacct-", Alphabet::Url, 16, "openai"),
    token("sk-admin-", Alphabet::Url, 16, "openai"),
    token("sk-", Alphabet::Alnum, 20, "openai"),
    token("gsk_", Alphabet::Alnum, 20, "groq"),
    token("xai-", Alphabet::Alnum, 20, "xai"),
    token("hf_", Alphabet::Alnum, 30, "huggingface"),
    token("r8_", Alphabet::Alnum, 30, "replicate"),
    token("npm_", Alphabet::Alnum, 30, "npm"),
    token("pypi-", Alphabet::Url, 50, "pypi"),
    token("rubygems_", Alphabet::Hex, 32, "rubygems"),
    token("dckr_pat_", Alphabet::Url, 20, "docker"),
    token("dop_v1_", Alphabet::Hex, 32, "digitalocean"),
    token("doo_v1_", Alphabet::Hex, 32, "digitalocean"),
    token("SG.", Alphabet::Dotted, 40, "sendgrid"),
    token("shpat_", Alphabet::Hex, 32, "shopify"),
    token("shpss_", Alphabet::Hex, 32, "shopify"),
    token("shpca_", Alphabet::Hex, 32, "shopify"),
    token("sq0csp-", Alphabet::Url, 20, "square"),
    token("sq0atp-", Alphabet::Url, 20, "square"),
    token("lin_api_", Alphabet::Alnum, 30, "linear"),
    token("hvs.", Alphabet::Url, 20, "vault"),
    token("hvb.", Alphabet::Url, 20, "vault"),
    token("tskey-", Alphabet::Url, 16, "tailscale"),
    token("ATATT3", Alphabet::Base64, 40, "atlassian"),
    token("PMAK-", Alphabet::Url, 20, "postman"),
    token("NRAK-", Alphabet::Alnum, 20, "newrelic"),
    token("dapi", Alphabet::Hex, 32, "databricks"),
    token("figd_", Alphabet::Url, 20, "figma"),
    token("glc_", Alphabet::Base64, 30, "grafana"),
    token("glsa_", Alphabet::Url, 30, "grafana"),
    token("dp.pt.", Alphabet::Alnum, 30, "doppler"),
    token("AGE-SECRET-KEY-1", Alphabet::Upper, 40, "age"),
    token("rv_", Alphabet::Url, 24, "reeve"),
    token("reeve-join-", Alphabet::Dotted, 24, "reeve"),
];

/// A bit for each pair of bytes that a prefix begins with: most words are passed over by it.
const PAIRS: [u64; 1024] = {
    let mut pairs = [0; 1024];
    let mut at = 0;
    while at < TOKENS.len() {
        let pair = TOKENS[at].prefix[0] as usize * 256 + TOKENS[at].prefix[1] as usize;
        pairs[pair / 64] |= 1 << (pair % 64);
        at += 1;
    }
    pairs
};

/// Quickly: whether the first two bytes are those of a token.
#[must_use]
pub fn may_be_token(bytes: &[u8]) -> bool {
    let [first, second, ..] = bytes else { return false };
    let pair = usize::from(*first) * 256 + usize::from(*second);
    PAIRS[pair / 64] & (1 << (pair % 64)) != 0
}

/// The token that begins here, and its length.
#[must_use]
pub fn find_token(bytes: &[u8]) -> Option<(&'static Token, usize)> {
    let first = *bytes.first()?;
    TOKENS.iter().filter(|token| token.prefix.first() == Some(&first)).find_map(|token| {
        let rest = bytes.strip_prefix(token.prefix)?;
        let length = rest.iter().take_while(|byte| token.alphabet.has(**byte)).count();
        (length >= token.least).then_some((token, token.prefix.len() + length))
    })
}
