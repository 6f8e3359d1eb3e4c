import type { TableName } from '../model.ts'
export type HostHandler<_DB, _Sent, _T extends TableName<_Sent>> = (changes: readonly unknown[]) => void
