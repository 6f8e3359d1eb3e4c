/** The host's own tables on a till; nothing in them is there for tillsync. Decimals are text, exact. */
export const TILL_SCHEMA = `
  CREATE TABLE pos_processes (id INTEGER PRIMARY KEY, opened_at TEXT NOT NULL);
  CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, process_id INTEGER REFERENCES pos_processes, receipt_no TEXT NOT NULL UNIQUE, location TEXT NOT NULL,
    business_date TEXT NOT NULL, posted_at TEXT NOT NULL, customer_no TEXT, status TEXT NOT NULL, net_amount TEXT NOT NULL, cashier_pin TEXT
  );
  CREATE TABLE receipt_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts ON DELETE CASCADE, item_no TEXT NOT NULL,
    quantity TEXT NOT NULL, net_amount TEXT NOT NULL
  );
  CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id);
  CREATE TABLE tender_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts ON DELETE CASCADE, tender TEXT NOT NULL, amount TEXT NOT NULL
  );
  CREATE INDEX tender_lines_receipt_id ON tender_lines (receipt_id);
`

/** Head office's copies: two tills number alike, so location and register belong to the key. */
export const CENTRAL_SCHEMA = `
  CREATE TABLE pos_processes (location text, register text, id bigint, opened_at timestamptz NOT NULL, PRIMARY KEY (location, register, id));
  CREATE TABLE receipts (
    location text, register text, id bigint, process_id bigint, receipt_no text NOT NULL, business_date date NOT NULL,
    posted_at timestamptz NOT NULL, customer_no text, status text NOT NULL, net_amount numeric NOT NULL,
    PRIMARY KEY (location, register, id)
  );
  CREATE TABLE receipt_lines (
    location text, register text, id bigint, receipt_id bigint NOT NULL, item_no text NOT NULL, quantity numeric NOT NULL, net_amount numeric NOT NULL,
    PRIMARY KEY (location, register, id), FOREIGN KEY (location, register, receipt_id) REFERENCES receipts
  );
  CREATE INDEX ON receipt_lines (location, register, receipt_id);
  CREATE TABLE tender_lines (
    location text, register text, id bigint, receipt_id bigint NOT NULL, tender text NOT NULL, amount numeric NOT NULL,
    PRIMARY KEY (location, register, id), FOREIGN KEY (location, register, receipt_id) REFERENCES receipts
  );
  CREATE INDEX ON tender_lines (location, register, receipt_id);
`

/** The published columns, in both databases. */
export const COLUMNS = {
  receipts: ['id', 'process_id', 'receipt_no', 'business_date', 'customer_no', 'status', 'net_amount'],
  receipt_lines: ['id', 'receipt_id', 'item_no', 'quantity', 'net_amount'],
  tender_lines: ['id', 'receipt_id', 'tender', 'amount'],
} as const satisfies Record<string, readonly string[]>

export type SaleTable = keyof typeof COLUMNS
export const SALE_TABLES = Object.keys(COLUMNS) as SaleTable[]
