"""What the demo asks, in the form that the embedded models were trained on. Written for this project."""

from __future__ import annotations

PROMPTS = (
    "Question: Marta bakes 4 trays of rolls with 12 rolls on each tray. She sells 30 rolls in the morning. "
    "How many rolls does she have left?\nAnswer:",
    "Question: A bus carries 18 people. At the first stop 7 people get off and 5 people get on. "
    "How many people are on the bus now?\nAnswer:",
    "Question: Omar saves $6 a week for 9 weeks and then spends $20 on a book. "
    "How much money does he have left?\nAnswer:",
    "Question: A garden has 3 rows of 8 tomato plants and 2 rows of 6 pepper plants. "
    "How many plants are there in total?\nAnswer:",
    "Question: Lena reads 15 pages a day. Her book has 240 pages and she has read for 10 days. "
    "How many pages are left to read?\nAnswer:",
    'def read_lines(path):\n    """Return the lines of a file without their line ends."""\n',
)
