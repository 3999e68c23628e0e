import pytest

from genre_flax.datasets.posters import genre_lists


@pytest.mark.parametrize(
  ('text', 'genres'),
  [
    ("['Drama', 'Action']", ('Action', 'Drama')),
    ("('Drama', 'Action')", ('Action', 'Drama')),
    ("{'Drama', 'Action'}", ('Action', 'Drama')),
    ('[]', ()),
    ('Drama|Action', ('Action', 'Drama')),
    ('Drama, Action', ('Action', 'Drama')),
    ('Drama; Action', ('Action', 'Drama')),
    ('Drama / Action', ('Action', 'Drama')),
    ('Sci-Fi|Reality-TV', ('Reality-TV', 'Sci-Fi')),
    ('Film  Noir, War\nFilm', ('Film Noir', 'War Film')),
    ('N/A', ('N/A',)),
    ('Drama / N/A', ('Drama', 'N/A')),
    ('N/A|Drama', ('Drama', 'N/A')),
    ("['N/A']", ('N/A',)),
    ('Drama', ('Drama',)),
    ('Drama|Drama|', ('Drama',)),
    ('', ()),
  ],
)
def test_notations_of_genre_lists(text, genres):
  assert genre_lists.parse_genres(text) == genres


@pytest.mark.parametrize(
  'text', ["['Drama'", '[1, 2]', "{'id': 18}", '[Drama, Action]', "[['Drama']]"]
)
def test_lists_of_other_values_are_refused(text):
  with pytest.raises(ValueError, match='is not a list of names; expected one'):
    genre_lists.parse_genres(text)


@pytest.mark.parametrize('text', ["['Drama' 'Action']", '[\'Drama\'\n "War"]'])
def test_a_missing_comma_is_refused(text):
  with pytest.raises(ValueError, match='lacks a comma between two names'):
    genre_lists.parse_genres(text)
