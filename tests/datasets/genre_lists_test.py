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
    ('-', ()),
    ("['Drama' 'Action']", ('Action', 'Drama')),
    ("['Drama'\n \"Children's\"]", ("Children's", 'Drama')),
    ('[{"id": 18, "name": "Drama"}, {"name": "Action"}]', ('Action', 'Drama')),
    ("['Drama', 'Action' 'War']", ('Action', 'Drama', 'War')),
    ('["a\' \'b"]', ("a' 'b",)),
    ("[{'id': 18, 'name': 'Drama'}]", ('Drama',)),
    ('[{"id": null, "name": "Drama"}, null]', ('Drama', 'None')),
    ('{"/m/02l7c8": "Drama", "/m/02kdv5l": "Action"}', ('Action', 'Drama')),
    ('剧情，动作、喜剧／恐怖', ('剧情', '动作', '喜剧', '恐怖')),
    ('Children&#39;s|Rock &amp; Roll', ("Children's", 'Rock & Roll')),
    ('["Rock &amp; Roll"]', ('Rock & Roll',)),
    ('(no genres listed)', ('(no genres listed)',)),
    ("['\\N']", ("['\\N']",)),
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


def test_a_given_separator_wins():
  found = genre_lists.parse_genres('Drama  Sci-Fi/SF', ' ')
  assert found == ('Drama', 'Sci-Fi/SF')


def test_names_of_missing_values():
  names = ['nan', 'NaN', 'None', 'NA', 'N/A', 'null', r'\N', r"['\N']", '#N/A']
  names += ['(no genres listed)', '<NA>', 'Unknown']
  assert all(map(genre_lists.is_missing, names))
  assert not any(map(genre_lists.is_missing, ['News', 'Drama', 'Nine', '剧情']))
