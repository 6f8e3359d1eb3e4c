/** An ERP's own ledger, as Business Central has one: entries of kinds, with a sign, never changed. Nothing in it is there for tillsync but the last three columns. */
export const ERP_SCHEMA = `
  CREATE TABLE item_ledger_entries (
    entry_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    posting_date date NOT NULL,
    entry_type varchar(20) NOT NULL CHECK (entry_type IN ('Sale', 'Sales Return')),
    document_no varchar(20) NOT NULL,
    item_no varchar(20) NOT NULL,
    location_code varchar(10) NOT NULL,
    source_no varchar(20),
    quantity numeric(18, 3) NOT NULL,
    sales_amount numeric(18, 2) NOT NULL,
    correction boolean NOT NULL,
    lot_no varchar(20),
    till varchar(20) NOT NULL,
    till_entry_no bigint NOT NULL,
    till_key text NOT NULL UNIQUE
  )`

export interface TillTables {
  receipts: { id: number; receipt_no: string; business_date: string; customer_no: string | null; status: string }
  receipt_lines: { id: number; receipt_id: number; item_no: string; lot_no: string | null; quantity: number; net_amount: string }
}

/** A till's own tables. The scales write weights into a REAL column. */
export const TILL_SCHEMA = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, business_date TEXT NOT NULL, customer_no TEXT, status TEXT NOT NULL);
  CREATE TABLE receipt_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts, item_no TEXT NOT NULL, lot_no TEXT, quantity REAL NOT NULL, net_amount TEXT NOT NULL);
  CREATE INDEX receipt_lines_of_receipt ON receipt_lines (receipt_id)`
