//! What happens to a registered customer. Nothing in here tells a stranger who that is: personal data
//! is sealed, and what must be compared is hashed, all under the one data key of the customer. Once
//! that key is destroyed the stream still loads and names nobody.

use cqrs_es::DomainEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AddressId, Email, Hashed, Sealed, StoreId, Timestamp,
    event::current_version,
    personal::{Mobile, Profile, SavedAddress, SocialSubject},
};

/// A customer registers, lives with the shop, and may leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum CustomerEvent {
    /// Somebody became a customer, and has the role of one from now on.
    #[serde(rename = "customer.registered")]
    Registered {
        /// Who it is.
        profile: Sealed<Profile>,
        /// Of the e-mail address in `profile`, if it has one; not verified yet.
        email: Option<Hashed<Email>>,
        /// Of the phone in `profile`, if it has one; not verified yet.
        phone: Option<Hashed<Mobile>>,
        /// When the person asserted to be 14 or older (KOREA U1). Nobody else is ever registered.
        fourteen_or_older_asserted_at: Timestamp,
        /// What was agreed to, each kind once; terms and privacy are always among it.
        consents: Vec<Consent>,
        /// How the customer signs in.
        sign_up: SignUp,
    },
    /// The customer has shown that the e-mail address is theirs.
    #[serde(rename = "customer.email_verified")]
    EmailVerified {
        /// Of the address that was verified.
        email: Hashed<Email>,
        /// How it was shown.
        by: VerifiedBy,
    },
    /// The customer has shown that the phone is theirs.
    #[serde(rename = "customer.phone_verified")]
    PhoneVerified {
        /// Of the number that was verified.
        phone: Hashed<Mobile>,
        /// How it was shown.
        by: VerifiedBy,
    },
    /// The customer goes by another name or is reached elsewhere. An e-mail address or phone with
    /// another hash than before is not verified.
    #[serde(rename = "customer.profile_changed")]
    ProfileChanged {
        /// Who it is now, in full.
        profile: Sealed<Profile>,
        /// Of the e-mail address in `profile`, if it has one.
        email: Option<Hashed<Email>>,
        /// Of the phone in `profile`, if it has one.
        phone: Option<Hashed<Mobile>>,
    },
    /// There is one more address to deliver to.
    #[serde(rename = "customer.address_added")]
    AddressAdded {
        /// Which.
        address_id: AddressId,
        /// Where, and to whom.
        address: Sealed<SavedAddress>,
        /// Whether it is the default from now on; the first one always is.
        is_default: bool,
    },
    /// An address reads otherwise.
    #[serde(rename = "customer.address_changed")]
    AddressChanged {
        /// Which.
        address_id: AddressId,
        /// Where, and to whom, now.
        address: Sealed<SavedAddress>,
    },
    /// An address is gone.
    #[serde(rename = "customer.address_removed")]
    AddressRemoved {
        /// Which.
        address_id: AddressId,
        /// The default from now on; none if no address is left.
        default_address_id: Option<AddressId>,
    },
    /// Another address is the default.
    #[serde(rename = "customer.default_address_chosen")]
    DefaultAddressChosen {
        /// Which.
        address_id: AddressId,
    },
    /// The customer agreed to something, or does not agree any more.
    #[serde(rename = "customer.consent_changed")]
    ConsentChanged {
        /// To what.
        kind: ConsentKind,
        /// Given, or withdrawn.
        given: bool,
        /// The wording that was agreed to; of a withdrawal, the one that had been.
        text: AgreedText,
        /// When.
        at: Timestamp,
    },
    /// There is a password, or another one. It is a secret and stands nowhere in the log; its hash is a
    /// row that is written in the same append. Who did it is the actor of the event.
    #[serde(rename = "customer.password_changed")]
    PasswordChanged {
        /// Why.
        reason: PasswordChange,
    },
    /// The customer can sign in with an account elsewhere.
    #[serde(rename = "customer.social_linked")]
    SocialLinked {
        /// Which.
        account: SocialAccount,
    },
    /// The customer cannot sign in with that account any more.
    #[serde(rename = "customer.social_unlinked")]
    SocialUnlinked {
        /// Where.
        provider: SocialProvider,
        /// Of which account there.
        subject_hash: Hashed<SocialSubject>,
    },
    /// The customer may not sign in or order for now.
    #[serde(rename = "customer.suspended")]
    Suspended {
        /// Why. No free text: what an operator types may name a person.
        reason: SuspendReason,
    },
    /// The customer may again.
    #[serde(rename = "customer.reinstated")]
    Reinstated {},
    /// The customer wishes to leave (탈퇴).
    #[serde(rename = "customer.withdrawal_requested")]
    WithdrawalRequested {
        /// From then on it can be completed and not be cancelled any more.
        executes_at: Timestamp,
    },
    /// The customer stays after all.
    #[serde(rename = "customer.withdrawal_cancelled")]
    WithdrawalCancelled {},
    /// The customer has left: addresses, consents, ways to sign in and all roles end with it. The data
    /// key is destroyed after this event.
    #[serde(rename = "customer.withdrawal_completed")]
    WithdrawalCompleted {},
    /// The customer may do more.
    #[serde(rename = "customer.role_granted")]
    RoleGranted {
        /// What.
        role: Role,
    },
    /// The customer may do less.
    #[serde(rename = "customer.role_revoked")]
    RoleRevoked {
        /// What.
        role: Role,
    },
}

/// What a customer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Role {
    /// Buy. Every customer, from registering to leaving; never granted or revoked by an event.
    Customer,
    /// Sell in a store.
    Seller {
        /// Which.
        store_id: StoreId,
    },
    /// Work for a store.
    Staff {
        /// Which.
        store_id: StoreId,
    },
    /// Run the installation.
    Admin,
}

/// How somebody became a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignUp {
    /// With an e-mail address and a password.
    Local,
    /// With an account elsewhere.
    Social {
        /// Which.
        account: SocialAccount,
    },
}

/// An account elsewhere. What tells accounts apart is the provider with its own id of the person, never
/// an e-mail address (KOREA U5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SocialAccount {
    /// Where.
    pub provider: SocialProvider,
    /// The provider's own id of the person: it is needed again to cut the tie there.
    pub subject: Sealed<SocialSubject>,
    /// Of that id.
    pub subject_hash: Hashed<SocialSubject>,
}

/// Who can say that somebody is who they were before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SocialProvider {
    /// 카카오.
    Kakao,
    /// 네이버.
    Naver,
    /// Google.
    Google,
}

/// What can be agreed to; each on its own (KOREA U3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentKind {
    /// 이용약관: required.
    Terms,
    /// 개인정보 수집·이용: required.
    Privacy,
    /// Advertising by e-mail.
    MarketingEmail,
    /// Advertising by SMS and the like.
    MarketingSms,
    /// Advertising between 21:00 and 08:00, by whichever way is agreed to (KOREA N3).
    MarketingNight,
    /// 제3자 제공.
    ThirdParty,
}

/// A wording. What was shown under a version is proven by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgreedText {
    /// The day it came into force.
    pub version: String,
    /// SHA-256 of the wording, 64 hex digits.
    pub sha256: String,
}

/// Something agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Consent {
    /// To what.
    pub kind: ConsentKind,
    /// In which wording.
    pub text: AgreedText,
    /// When.
    pub given_at: Timestamp,
}

/// How a customer has shown that an e-mail address or a phone is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifiedBy {
    /// A code that was sent there came back.
    Code,
    /// A provider whose account is linked says so.
    Provider,
}

/// Why there is another password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PasswordChange {
    /// There was none.
    Set,
    /// Whoever changed it knew the old one.
    Changed,
    /// The old one was forgotten or must not be used any more.
    Reset,
}

/// Why a customer may not sign in or order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuspendReason {
    /// Somebody else may be using the account.
    AccountAtRisk,
    /// Payments or orders look like fraud.
    FraudSuspected,
    /// The terms were broken.
    TermsBroken,
    /// An authority ordered it.
    LegalOrder,
    /// The customer asked for it.
    OwnRequest,
}

impl DomainEvent for CustomerEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }
    fn event_version(&self) -> String {
        current_version(self.name()).to_owned()
    }
}

impl CustomerEvent {
    /// When it happened in the world, where that is not when the shop learnt it.
    pub const fn happened_at(&self) -> Option<Timestamp> {
        match self {
            Self::ConsentChanged { at, .. } => Some(*at),
            Self::Registered { .. }
            | Self::EmailVerified { .. }
            | Self::PhoneVerified { .. }
            | Self::ProfileChanged { .. }
            | Self::AddressAdded { .. }
            | Self::AddressChanged { .. }
            | Self::AddressRemoved { .. }
            | Self::DefaultAddressChosen { .. }
            | Self::PasswordChanged { .. }
            | Self::SocialLinked { .. }
            | Self::SocialUnlinked { .. }
            | Self::Suspended { .. }
            | Self::Reinstated {}
            | Self::WithdrawalRequested { .. }
            | Self::WithdrawalCancelled {}
            | Self::WithdrawalCompleted {}
            | Self::RoleGranted { .. }
            | Self::RoleRevoked { .. } => None,
        }
    }

    /// The stored name, as in the `event_type` column.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "customer.registered",
            Self::EmailVerified { .. } => "customer.email_verified",
            Self::PhoneVerified { .. } => "customer.phone_verified",
            Self::ProfileChanged { .. } => "customer.profile_changed",
            Self::AddressAdded { .. } => "customer.address_added",
            Self::AddressChanged { .. } => "customer.address_changed",
            Self::AddressRemoved { .. } => "customer.address_removed",
            Self::DefaultAddressChosen { .. } => "customer.default_address_chosen",
            Self::ConsentChanged { .. } => "customer.consent_changed",
            Self::PasswordChanged { .. } => "customer.password_changed",
            Self::SocialLinked { .. } => "customer.social_linked",
            Self::SocialUnlinked { .. } => "customer.social_unlinked",
            Self::Suspended { .. } => "customer.suspended",
            Self::Reinstated {} => "customer.reinstated",
            Self::WithdrawalRequested { .. } => "customer.withdrawal_requested",
            Self::WithdrawalCancelled {} => "customer.withdrawal_cancelled",
            Self::WithdrawalCompleted {} => "customer.withdrawal_completed",
            Self::RoleGranted { .. } => "customer.role_granted",
            Self::RoleRevoked { .. } => "customer.role_revoked",
        }
    }
}
