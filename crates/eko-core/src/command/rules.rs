//! The rules of a command's fields, each once: the parser reads them, and the JSON Schemas that
//! others read are made of them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Digits, as a string or as a number that loses none of them.
pub(super) struct Digits {
    pub(super) least: u32,
    pub(super) most: u32,
    /// Whether Eko takes a number, so that leading zeros would be lost.
    pub(super) is_number: bool,
}

/// Letters, digits and a few others.
pub(super) struct Word {
    pub(super) most: usize,
    /// Which, besides letters and digits.
    pub(super) others: &'static str,
}

/// Any text, as long as it is neither empty nor longer than this many bytes.
pub(super) struct Bytes {
    pub(super) most: usize,
}

/// Eko's id of a transaction: a number above 0, which leading zeros do not change.
pub(super) const TID: Digits = Digits { least: 1, most: 19, is_number: false };
/// What the customer read out.
pub(super) const OTP: Digits = Digits { least: 4, most: 8, is_number: false };
/// A mobile number without its country's code.
pub(super) const MOBILE: Digits = Digits { least: 10, most: 10, is_number: false };
/// Eko's id of a recipient.
pub(super) const RECIPIENT_ID: Digits = Digits { least: 1, most: 19, is_number: true };
/// Eko's id of a recipient's bank account, which Eko takes as a string.
pub(super) const BENEFICIARY_ID: Digits = Digits { least: 1, most: 19, is_number: false };
/// The command's id.
pub(super) const ID: Word = Word { most: 64, others: "._:-" };
/// Eko's code of a retailer.
pub(super) const USER_CODE: Word = Word { most: 32, others: "_-" };
/// Our reference at Eko.
pub(super) const CLIENT_REF_ID: Word = Word { most: 20, others: "_-" };
/// An OTP in a sealed box, in base64 of either alphabet.
pub(super) const OTP_SEALED: Word = Word { most: 1024, others: "+/=_-" };
/// Eko's reference of one OTP session.
pub(super) const OTP_REF_ID: Bytes = Bytes { most: 1024 };
/// AMQP carries at most 255 bytes of it.
pub(super) const CORRELATION_ID: Bytes = Bytes { most: 255 };

/// The one form of a tid: without leading zeros, since Eko reads a number; `None` where that is 0.
pub fn normal_tid(digits: &str) -> Option<&str> {
    Some(digits.trim_start_matches('0')).filter(|tid| !tid.is_empty())
}

/// The one form of a tid that a person gave: 1 to 19 digits, a number above 0.
pub fn read_tid(text: &str) -> Option<&str> {
    let is_number = TID.fits(text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    normal_tid(text).filter(|_| is_number)
}

/// Whether CloudEvents allows an attribute of that name.
pub(super) fn is_attribute_name(name: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.bytes().all(usable)
}

impl Digits {
    /// Whether so many digits may be there.
    pub(super) const fn fits(&self, count: usize) -> bool {
        self.least as usize <= count && count <= self.most as usize
    }

    /// `4 to 8`, or `10`.
    pub(super) fn range(&self) -> String {
        let Self { least, most, .. } = self;
        if least == most { least.to_string() } else { format!("{least} to {most}") }
    }

    fn schema(&self) -> Schema {
        let Self { least, most, is_number } = self;
        // A number begins with no 0, so that it has that many digits only from here on.
        let smallest = if *least == 1 && !is_number { 0 } else { 10_u64.pow(least - 1) };
        // 19 digits fit into 64 bits.
        let largest = 10_u64.pow(*most) - 1;
        let pattern = match is_number {
            true => format!("^[1-9][0-9]{{{},{}}}$", least - 1, most - 1),
            false if least == most => format!("^[0-9]{{{least}}}$"),
            false => format!("^[0-9]{{{least},{most}}}$"),
        };
        json_schema!({"anyOf": [
            {"type": "string", "pattern": pattern},
            {"type": "integer", "minimum": smallest, "maximum": largest},
        ]})
    }
}

impl Word {
    /// Whether the text keeps to the rule.
    pub(super) fn fits(&self, text: &str) -> bool {
        let usable = |c: char| c.is_ascii_alphanumeric() || self.others.contains(c);
        (1..=self.most).contains(&text.len()) && text.chars().all(usable)
    }

    fn schema(&self) -> Schema {
        let Self { most, others } = self;
        json_schema!({"type": "string", "pattern": format!("^[A-Za-z0-9{others}]{{1,{most}}}$")})
    }
}

impl Bytes {
    /// Whether the text keeps to the rule.
    pub(super) fn fits(&self, text: &str) -> bool {
        (1..=self.most).contains(&text.len())
    }

    /// JSON Schema counts characters, of which a text has at most as many as bytes.
    fn schema(&self) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": self.most})
    }
}

/// Makes types that stand for rules where a schema is derived.
macro_rules! ruled {
    ($($name:ident => $schema:expr;)*) => {$(
        /// Stands for the rule of this name.
        pub(super) enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

ruled! {
    // Written with any leading zeros, but a number above 0.
    Tid => json_schema!({"anyOf": [
        {"type": "string", "pattern": format!("^[0-9]{{1,{}}}$", TID.most), "not": {"pattern": "^0+$"}},
        {"type": "integer", "minimum": 1, "maximum": 10_u64.pow(TID.most) - 1},
    ]});
    Otp => OTP.schema();
    OtpSealed => OTP_SEALED.schema();
    Mobile => MOBILE.schema();
    RecipientId => RECIPIENT_ID.schema();
    BeneficiaryId => BENEFICIARY_ID.schema();
    Rail => json_schema!({"type": "string", "enum": super::Rail::ALL.map(super::Rail::as_str)});
    Id => ID.schema();
    ClientRefId => CLIENT_REF_ID.schema();
    OtpRefId => OTP_REF_ID.schema();
    CorrelationId => CORRELATION_ID.schema();
    UserCode => json_schema!({"anyOf": [
        USER_CODE.schema(),
        {"type": "integer", "minimum": 0, "maximum": u64::MAX},
    ]});
    Amount => json_schema!({"type": "integer", "minimum": 1, "maximum": u64::MAX});
    FixedCode => json_schema!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    Time => json_schema!({"type": "string", "format": "date-time"});
    // What cannot be read is passed over: nothing depends on it. CloudEvents has a string there.
    Lenient => json_schema!({"type": "string"});
}
