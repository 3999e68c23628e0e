"""Titles and descriptions of metrics, in the order of the reports."""

# (name, title, description) of each metric of `split_metrics.make_report`.
METRICS = (
  ('hit_at_3', 'Hit at 3', 'posters with at least one correct prediction of 3'),
  (
    'recall_at_3',
    'Recall at 3',
    'share of the genres of a poster in the 3',
  ),
  ('precision_at_3', 'Precision at 3', 'share of correct top-3 predictions'),
  (
    'mean_average_precision',
    'Mean average precision',
    'ranking of the posters of each genre, mean over genres',
  ),
  (
    'micro_average_precision',
    'Micro average precision',
    'ranking of all (poster, genre) pairs',
  ),
  ('mean_roc_auc', 'Mean ROC-AUC', 'mean over genres; 0.5 is chance level'),
  ('micro_f1_fitted', 'Micro-F1', 'at the fitted threshold'),
  ('macro_f1_fitted', 'Macro-F1', 'mean over genres, at fitted thresholds'),
  (
    'exact_match_fitted',
    'Exact match',
    'posters with all genres predicted correctly, fitted',
  ),
  ('accuracy', 'Accuracy', '(poster, genre) pairs, at threshold 0.5'),
)
