//! What every refusal of a customer means to a client.

use jangbu_domain::CustomerError;
use jangbu_events::{ConsentKind, Timestamp};

use super::{Code, Problem};
use crate::{
    http::{
        auth::unauthorized,
        views::{time, word},
    },
    members::{MemberError, sign_in::SignInError},
};

impl From<CustomerError> for Problem {
    fn from(error: CustomerError) -> Self {
        match error {
            CustomerError::NotRegistered => Code::CustomerNotFound.into(),
            CustomerError::AlreadyRegistered => Code::CustomerExists.into(),
            CustomerError::Withdrawn => Code::CustomerWithdrawn.into(),
            CustomerError::UnderFourteen => Code::UnderFourteen.into(),
            CustomerError::ConsentMissing { kind } => of_consent(Code::ConsentMissing, kind).at("/consents"),
            CustomerError::ConsentTwice { kind } => of_consent(Code::ConsentTwice, kind).at("/consents"),
            CustomerError::ConsentRequired { kind } => of_consent(Code::ConsentNotWithdrawable, kind),
            CustomerError::EmailRequired => Self::new(Code::EmailRequired).at("/email"),
            CustomerError::ContactChanged => Code::ContactChanged.into(),
            CustomerError::TooManyAddresses { max } => Self::new(Code::TooManyAddresses)
                .detail(
                    format!("At most {max} addresses are kept."),
                    format!("배송지는 {max}개까지 저장할 수 있습니다."),
                )
                .fact("max", max),
            CustomerError::UnknownAddress { address_id } => {
                Self::new(Code::AddressNotFound).fact("address_id", address_id.to_string())
            }
            CustomerError::AddressExists { .. } => Self::internal("the id of an address was used for another one"),
            CustomerError::PasswordExists => Code::PasswordExists.into(),
            CustomerError::NoPassword => Code::PasswordMissing.into(),
            CustomerError::TooManySocialAccounts { max } => Self::new(Code::TooManySocialAccounts)
                .detail(
                    format!("At most {max} accounts elsewhere can be linked."),
                    format!("소셜 계정은 {max}개까지 연결할 수 있습니다."),
                )
                .fact("max", max),
            CustomerError::NotProved { minutes } => Self::new(Code::SocialProofRequired)
                .detail(
                    format!("Sign in to both accounts, not more than {minutes} minutes apart from this request."),
                    format!("두 계정 모두 {minutes}분 이내에 로그인해야 연결할 수 있습니다."),
                )
                .fact("minutes", minutes),
            CustomerError::LastWayToSignIn { provider } => {
                Self::new(Code::LastWayToSignIn).fact("provider", word(provider))
            }
            CustomerError::Suspended { .. } => Code::CustomerSuspended.into(),
            CustomerError::WithdrawalRequested { executes_at } => of_time(Code::WithdrawalRequested, executes_at),
            CustomerError::WithdrawalDue { executes_at } => of_time(Code::WithdrawalDue, executes_at),
            CustomerError::WithdrawalNotDue { executes_at } => of_time(Code::WithdrawalNotDue, executes_at),
            CustomerError::CustomerRole => Code::CustomerRole.into(),
            CustomerError::TooManyRoles { max } => Self::new(Code::TooManyRoles).fact("max", max),
            CustomerError::AnotherKey => Self::internal("something of a customer is sealed under another key"),
        }
    }
}

fn of_consent(code: Code, kind: ConsentKind) -> Problem {
    Problem::new(code).fact("consent", word(kind))
}

fn of_time(code: Code, executes_at: Timestamp) -> Problem {
    Problem::new(code).fact("executes_at", time(executes_at))
}

impl From<MemberError> for Problem {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Execute(error) => error.into(),
            MemberError::Busy(busy) => Self::new(Code::Busy).retry_after(busy.retry_after_seconds),
            MemberError::Database(error) => error.into(),
            MemberError::Seal(error) => error.into(),
            MemberError::Gone => Code::PersonalDataGone.into(),
        }
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Wrong => unauthorized(Code::CredentialsWrong),
            SignInError::Blocked(blocked) => Self::new(Code::RateLimited).retry_after(blocked.retry_after_seconds),
            SignInError::Busy(busy) => Self::new(Code::Busy).retry_after(busy.retry_after_seconds),
            SignInError::Suspended => Code::CustomerSuspended.into(),
            SignInError::Refused(_) => unauthorized(Code::SessionEnded),
            SignInError::Database(error) => error.into(),
            SignInError::Load(error) => error.into(),
        }
    }
}
