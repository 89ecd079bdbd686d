"""Names of the wires between our nodes. Values on them are frozen: nobody changes them."""

CONCEPT_SET = "CONCEPT_SET"
TASK_VECTOR = "TASK_VECTOR"
BLOCK_MASK = "BLOCK_MASK"
INVERSION_SET = "INVERSION_SET"
JUDGE = "CONCEPT_JUDGE"

CATEGORY = "model/erasure"
