"""What columns are called: protected attributes, labels, predictions and identifiers.

Each entry is a word or several that follow each other, without accents and in lower case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

# in the order in which an attribute is chosen where several are found
PROTECTED: dict[str, tuple[str, ...]] = {
    "sex": (
        *("sex", "gender", "female", "male", "woman", "women", "geschlecht", "sexe", "sexo"),
        *("genero", "sesso", "genere", "geslacht", "plec", "kon", "kjonn", "sukupuoli", "пол"),
        *("性别", "性別"),
    ),
    "race or ethnic origin": (
        *("race", "racial", "ethnicity", "ethnic", "ethnie", "ethnizitat", "herkunft", "rasse"),
        *("raza", "raca", "razza", "etnia", "origine ethnique", "skin color", "skin colour"),
        *("african american", "black", "hispanic", "民族"),
    ),
    "age": (
        *("age", "ages", "agegroup", "alter", "altersgruppe", "edad", "eta", "idade", "leeftijd"),
        *("wiek", "alder", "birth year", "birthyear", "birth date", "birthdate", "birthday"),
        *("date of birth", "year of birth", "dob", "geburtsjahr", "geburtsdatum", "возраст"),
        *("年龄", "年齢"),
    ),
    "religion": (
        *("religion", "religious", "faith", "konfession", "religione", "religiao", "godsdienst"),
        *("geloof", "wyznanie"),
    ),
    "disability": (
        *("disability", "disabled", "handicap", "handicapped", "behinderung", "schwerbehindert"),
        *("discapacidad", "disabilita", "deficiencia", "niepelnosprawnosc"),
    ),
    "nationality": (
        *("nationality", "citizenship", "citizen", "native country", "country of birth"),
        *("birth country", "birthplace", "place of birth", "nativity", "immigrant", "migrant"),
        *("migration", "foreign worker", "foreigner", "staatsangehorigkeit", "nationalitat"),
        *("nationalite", "nacionalidad", "nacionalidade", "nazionalita", "nationaliteit"),
    ),
    "marital status": (
        *("marital", "married", "marriage", "marital status", "familienstand", "etat civil"),
        *("estado civil", "stato civile", "burgerlijke staat", "personal status"),
    ),
    "sexual orientation": ("orientation", "sexual orientation", "lgbt", "lgbtq"),
    "pregnancy": ("pregnant", "pregnancy", "schwanger", "enceinte", "embarazo"),
}

LABELS = (
    *("label", "target", "outcome", "class", "y", "y true", "ground truth", "response"),
    *("hired", "hire", "approved", "accepted", "admitted", "granted", "default", "defaulted"),
    *("repaid", "paid", "income", "recid", "recidivism", "is recid", "two year recid"),
    *("churn", "passed", "promoted", "fraud", "credit risk", "result", "decision", "status"),
)
PREDICTIONS = (
    *("prediction", "predicted", "predict", "pred", "y pred", "y hat", "yhat", "decision"),
    *("decided", "recommendation", "model output"),
)
IDENTIFIERS = (
    *("id", "ids", "uuid", "guid", "key", "index", "number", "nr", "no", "unnamed", "name"),
    *("firstname", "lastname", "surname", "email", "mail", "phone", "ssn", "address", "kennung"),
    *("nummer", "nom", "nombre"),
)
POSITIVE = (
    *("1", "yes", "y", "true", "t", "positive", "good", "approved", "accepted", "hired"),
    *("admitted", "granted", "paid", "repaid", "pass", "passed", ">50k", ">50k.", "high"),
    *("ja", "oui", "si", "sim", "tak", "+"),
)
NEGATIVE = (
    *("0", "no", "n", "false", "f", "negative", "bad", "rejected", "denied", "refused"),
    *("not hired", "defaulted", "fail", "failed", "<=50k", "<=50k.", "low"),
    *("nein", "non", "nao", "nie", "-", "-1"),
)


def words_of(name: str) -> list[str]:
    """The words of a column's name.

    >>> words_of("nativeCountry"), words_of("Âge_2 (ans)")
    (['native', 'country'], ['age', 'ans'])
    """
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", split)
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return re.findall(r"[^\W\d_]+", unicodedata.normalize("NFKC", plain).lower())


def called(name: str, words: Collection[str]) -> str | None:
    """The first of the words, or words that follow each other, in a column's name.

    >>> called("native-country", ["country of birth", "native country"])
    'native country'
    """
    text = f" {' '.join(words_of(name))} "
    return next((each for each in words if f" {each} " in text), None)
