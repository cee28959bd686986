//! The rail of a transfer: each has an endpoint of its own at Eko, and wallets need two fields more.

use serde_json::value::RawValue;

use super::data::TransferOtpData;
use super::fields::{self, Fields};
use super::rules;

/// Over which of Eko's rails a transfer is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rail {
    /// DMT by Fino: the rail of a command that names none.
    DmtFino,
    /// The wallet `DigiKhata`.
    PpiDigikhata,
    /// The wallet of Levin.
    PpiLevin,
}

impl Rail {
    /// Every rail, in the contract's order.
    pub const ALL: [Self; 3] = [Self::DmtFino, Self::PpiDigikhata, Self::PpiLevin];

    /// The contract's word, which is the one of Eko's path, too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DmtFino => "dmt-fino",
            Self::PpiDigikhata => "ppi-digikhata",
            Self::PpiLevin => "ppi-levin",
        }
    }

    /// Whether the money comes from a wallet.
    pub(super) const fn is_wallet(self) -> bool {
        match self {
            Self::DmtFino => false,
            Self::PpiDigikhata | Self::PpiLevin => true,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rail| rail.as_str() == name)
    }
}

/// What a transfer from a wallet names besides.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// Eko's id of the recipient's bank account.
    pub beneficiary_id: String,
    /// Eko's fixed service code.
    pub service_code: u32,
}

impl Fields {
    /// Rail and wallet of a transfer. The usual rail leaves no trace in the normal form: it is the one
    /// of a command that names none, and of those of earlier versions.
    pub(super) fn rail(
        &mut self,
        given: &TransferOtpData<'_>,
    ) -> Result<(Rail, Option<Wallet>), String> {
        let rail = given.rail.map_or(Ok(Rail::DmtFino), read)?;
        if !rail.is_wallet() {
            let others =
                [("beneficiary_id", given.beneficiary_id), ("service_code", given.service_code)];
            return match others.into_iter().find(|(_, value)| value.is_some()) {
                None => Ok((rail, None)),
                Some((name, _)) => {
                    Err(format!("data.{name}: is only for the rails ppi-digikhata and ppi-levin"))
                }
            };
        }
        self.note("rail", rail.as_str());
        let wallet = Wallet {
            beneficiary_id: self.beneficiary_id(given.beneficiary_id)?,
            service_code: self.fixed_code("service_code", given.service_code)?.unwrap_or(80),
        };
        Ok((rail, Some(wallet)))
    }

    fn beneficiary_id(&mut self, raw: Option<&RawValue>) -> Result<String, String> {
        let raw = fields::required("data.beneficiary_id", raw)?;
        let id = fields::sized_digits("data.beneficiary_id", raw, &rules::BENEFICIARY_ID)?;
        self.note("beneficiary_id", &id);
        Ok(id.into_owned())
    }
}

fn read(raw: &RawValue) -> Result<Rail, String> {
    let name = fields::text("data.rail", raw)?;
    Rail::from_name(&name)
        .ok_or_else(|| "data.rail: is none of dmt-fino, ppi-digikhata, ppi-levin".to_owned())
}
