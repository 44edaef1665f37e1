"""The small package shared by the chapters: data, run profile, figures, verdicts, execution."""
