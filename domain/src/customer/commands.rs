//! What can be asked of a customer.

use chrono::TimeDelta;
use jangbu_events::{
    AddressId, Consent, ConsentKind, Email, Hashed, PasswordChange, Role, Sealed, SignUp, SocialAccount,
    SocialProvider, SuspendReason, Timestamp, VerifiedBy,
    personal::{Mobile, Profile, SavedAddress, SocialSubject},
};

/// What can be asked of a customer. Who asks, and whether they may, is the shell's to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomerCommand {
    /// Become a customer.
    Register(Box<Register>),
    /// The e-mail address is theirs; one that is verified already makes no event.
    VerifyEmail {
        /// Of the address that was verified.
        email: Hashed<Email>,
        /// How it was shown.
        by: VerifiedBy,
    },
    /// The phone is theirs; one that is verified already makes no event.
    VerifyPhone {
        /// Of the number that was verified.
        phone: Hashed<Mobile>,
        /// How it was shown.
        by: VerifiedBy,
    },
    /// Be called or reached otherwise. Sealing never gives the same twice, so whoever sends this has
    /// compared the old profile with the new one.
    ChangeProfile {
        /// In full.
        profile: Sealed<Profile>,
        /// Of the e-mail address in it.
        email: Option<Hashed<Email>>,
        /// Of the phone in it.
        phone: Option<Hashed<Mobile>>,
    },
    /// Keep one more address.
    AddAddress {
        /// A new one.
        address_id: AddressId,
        /// Where, and to whom.
        address: Sealed<SavedAddress>,
        /// Whether it becomes the default; the first one does anyway.
        is_default: bool,
    },
    /// Keep an address in other words.
    ChangeAddress {
        /// Which.
        address_id: AddressId,
        /// Where, and to whom.
        address: Sealed<SavedAddress>,
    },
    /// Keep an address no more; one that is not kept makes no event.
    RemoveAddress {
        /// Which.
        address_id: AddressId,
    },
    /// Make an address the default.
    ChooseDefaultAddress {
        /// Which.
        address_id: AddressId,
    },
    /// Agree to something; the same wording again makes no event.
    GiveConsent(Consent),
    /// Agree no more; what was not agreed to makes no event. Never refused for a suspension or a
    /// withdrawal: saying no is free at any time.
    WithdrawConsent {
        /// To what.
        kind: ConsentKind,
        /// When.
        at: Timestamp,
    },
    /// There is a new password. Its argon2id hash is no part of the command, which is kept in memory and
    /// may be printed: it goes with the envelope into a table of its own, in the same append.
    ChangePassword {
        /// Why.
        reason: PasswordChange,
    },
    /// Sign in with an account elsewhere too; one that is linked already makes no event.
    LinkSocial {
        /// Which.
        account: SocialAccount,
        /// That both accounts belong to one person.
        proof: ProofOfBoth,
        /// Now.
        at: Timestamp,
    },
    /// Sign in with an account elsewhere no more; one that is not linked makes no event.
    UnlinkSocial {
        /// Where.
        provider: SocialProvider,
        /// Which account there.
        subject_hash: Hashed<SocialSubject>,
    },
    /// Keep them from signing in and ordering; once suspended, the first reason stays.
    Suspend {
        /// Why.
        reason: SuspendReason,
    },
    /// Let them again.
    Reinstate,
    /// Leave (탈퇴). Neither a suspension nor a role stands in the way (KOREA U7); asked for again, the
    /// first time stands.
    RequestWithdrawal {
        /// Now.
        at: Timestamp,
        /// For how long they can change their mind.
        cancellable_for: CancellablePeriod,
    },
    /// Stay after all; with no withdrawal under way it makes no event.
    CancelWithdrawal {
        /// Now.
        at: Timestamp,
    },
    /// Have left. From a timer, so with no withdrawal under way it makes no event.
    CompleteWithdrawal {
        /// Now.
        at: Timestamp,
    },
    /// May do more; what they may do already makes no event.
    GrantRole {
        /// What.
        role: Role,
    },
    /// May do less; what they may not do anyway makes no event.
    RevokeRole {
        /// What.
        role: Role,
    },
}

/// Somebody who becomes a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Who it is.
    pub profile: Sealed<Profile>,
    /// Of the e-mail address in `profile`; with [`SignUp::Local`] there is one.
    pub email: Option<Hashed<Email>>,
    /// Of the phone in `profile`.
    pub phone: Option<Hashed<Mobile>>,
    /// When the person asserted to be 14 or older; `None` if they did not.
    pub fourteen_or_older_asserted_at: Option<Timestamp>,
    /// What the person agreed to, and nothing that was ticked beforehand.
    pub consents: Vec<Consent>,
    /// How they will sign in. With [`SignUp::Local`] the hash of the password goes with the envelope.
    pub sign_up: SignUp,
}

/// When it was shown last that each of two accounts belongs to whoever asks. That an e-mail address is
/// the same in both shows nothing (KOREA U6). Only a shell that has seen both proofs can say this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofOfBoth {
    /// When they signed in here.
    pub here_at: Timestamp,
    /// When the provider said who they are there.
    pub there_at: Timestamp,
}

impl ProofOfBoth {
    /// How long a proof is good for.
    pub const AGE_MAX: TimeDelta = TimeDelta::minutes(10);

    /// Whether both are good now. A proof of the future is none.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        let fresh = |at: Timestamp| (TimeDelta::zero()..=Self::AGE_MAX).contains(&now.signed_duration_since(at));
        fresh(self.here_at) && fresh(self.there_at)
    }
}

/// How long somebody who wishes to leave can change their mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CancellablePeriod(u8);

/// A period that would put leaving off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a withdrawal can be cancelled for 0 to {} days", CancellablePeriod::DAYS_MAX)]
pub struct CancellablePeriodError;

impl CancellablePeriod {
    /// Leaving is as easy as coming (KOREA U7): longer would be obstruction.
    pub const DAYS_MAX: u8 = 30;

    /// 0 to [`Self::DAYS_MAX`] days.
    pub const fn try_from_days(days: u8) -> Result<Self, CancellablePeriodError> {
        if days <= Self::DAYS_MAX {
            Ok(Self(days))
        } else {
            Err(CancellablePeriodError)
        }
    }

    pub(super) fn ends(self, from: Timestamp) -> Timestamp {
        from + TimeDelta::days(self.0.into())
    }
}
