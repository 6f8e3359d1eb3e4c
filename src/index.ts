export type { ArchivedEntry, EntryPosition, EntryState } from './apply/archive.ts'
export type { WhichEntries } from './apply/archive-book.ts'
export type { Applied, SubscriptionStatus } from './apply/audience-subscription.ts'
export type { Audit, AuditedEpoch, AuditedRegister } from './apply/audit.ts'
export type { WhichToAudit } from './apply/audit-book.ts'
export type { AuditCode, AuditCounts, AuditFinding, NumberedDocument, NumberRange } from './apply/audit-findings.ts'
export type { AuditedNumbers } from './apply/audit-numbers.ts'
export type { Between, WhichClosings } from './apply/closing-book.ts'
export type { Waits } from './apply/closing-completeness.ts'
export type { PluClosingsOptions, ReceiptsOptions, SummedReceipts } from './apply/closing-options.ts'
export type { ClosedRange, FoundClosings, PostedClosing, PostedClosingLine, PostedSums, WaitingClosing } from './apply/closing-recall.ts'
export type { Closing, ClosingLine, ClosingSums, ReceiptRange } from './apply/closings.ts'
export type { Handler, Mirror, MirrorRules, SubscribeRules } from './apply/handler.ts'
export type { Change, Effect, HandlerContext, HostHandler } from './apply/host-handler.ts'
export type { LedgerTable, LedgerValue, PostFunction } from './apply/host-ledger.ts'
export { mirror } from './apply/mirror.ts'
export type { MirrorOptions } from './apply/mirror-options.ts'
export type { Movement } from './apply/movements.ts'
export type { Notices } from './apply/notice-book.ts'
export type { NumberingRule, NumberingRules } from './apply/numbering.ts'
export type { Orphans } from './apply/orphan-book.ts'
export type { Orphan, OrphanState } from './apply/orphans.ts'
export { pluClosings } from './apply/plu-closings.ts'
export type { QuarantineFace, Retried } from './apply/quarantine-book.ts'
export type { Quarantined, QuarantineState, WhichQuarantined } from './apply/quarantine-list.ts'
export type { ReconciledItem, ReconciledMovement, ReconciledSums, Reconciliation } from './apply/reconcile.ts'
export type { WhichDay } from './apply/reconcile-book.ts'
export type { DifferenceReason, DifferingDocument, DifferingLine } from './apply/reconcile-differences.ts'
export type { Replayed, ReplayOptions, ReplayProgress } from './apply/replay.ts'
export type { WhichReplayed } from './apply/replay-options.ts'
export { type StockMovementsOptions, stockMovements } from './apply/stock-movements.ts'
export type { StockPosting } from './apply/stock-posting.ts'
export type { ArchivedDocument, ArchivedStage, ArchivedVersion } from './apply/trace.ts'
export type { TraceOptions, WhichTraced } from './apply/trace-book.ts'
export type { TracedOrphan, TracedQuarantine } from './apply/trace-facts.ts'
export type { TracedClosing, TracedPosting } from './apply/trace-postings.ts'
export type { Check, Problem, ValidateRules, Validation } from './apply/validate.ts'
export { type BalancedOptions, balanced } from './apply/validate-balanced.ts'
export { type KnownItemsOptions, knownItems } from './apply/validate-known-items.ts'
export { type ClosedPeriods, openPeriod } from './apply/validate-open-period.ts'
export type { WaitingDocument } from './apply/waiting-documents.ts'
export type { SubscribedTable, Unapplied } from './capture/audience-status.ts'
export type { ListedEntry } from './capture/log.ts'
export type { ParkedDocument } from './capture/parked.ts'
export type { Sealed } from './capture/sealer.ts'
export type { TracedDocument, TracedStage, TracedVersion } from './capture/trace.ts'
export { createCentral } from './central.ts'
export type { Central, CentralStatus, ExportTarget } from './central-face.ts'
export type { CentralOptions, Limits, PullOptions, RetryOptions, RotateOptions } from './central-options.ts'
export type { CompareOptions, CompareProgress, Comparison, Difference } from './compare-book.ts'
export type { Progress, SynchronizeOptions } from './courier.ts'
export { type Decimal, negate } from './decimal.ts'
export { TillsyncError, type TillsyncErrorCode, type TillsyncErrorDetails } from './errors.ts'
export type { CentralEvents, RegisterEvents } from './events.ts'
export type {
  AnyDocument,
  AnyTables,
  Attributes,
  AudienceFilter,
  AudienceRegister,
  AudienceRule,
  AudienceRules,
  Document,
  Entry,
  Filter,
  Finding,
  FindingCode,
  Notice,
  NoticeKind,
  Operation,
  PartRule,
  PartShape,
  PublishRules,
  RegisterName,
  RootRule,
  Row,
  Standing,
  TableName,
  Value,
  Which,
} from './model.ts'
export type { OwnTable } from './own-table.ts'
export type {
  ApplyingDatabase,
  CapturingDatabase,
  CentralDatabase,
  CentralMailbox,
  Database,
  Letter,
  Link,
  Mailbox,
  QuarantinedDocument,
  ReceiveOptions,
  RegisterDatabase,
  ReleasedDocument,
} from './ports.ts'
export type { PullTarget } from './pull-book.ts'
export { createRegister } from './register.ts'
export type { Register, RegisterStatus, Synchronized } from './register-face.ts'
export type { RegisterOptions } from './register-options.ts'
export type { ListedRegister, NewRegister, RegisterChanges, Registers } from './registers-face.ts'
export type { PulledRegister, PullProgress, PullResult } from './rounds.ts'
export type { LinkTransfer, MailboxTransfer, PullTransfer, PushTransfer } from './transfer-options.ts'
export type { RequestSource } from './transport/source.ts'
export type { Work } from './work.ts'
