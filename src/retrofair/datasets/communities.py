"""Communities and crime: violent crimes per head in US communities (1990 to 1995).

All columns are numbers between 0 and 1, each normalised by its own range over the file. The
group of a community is whichever of its four normalised racial shares is largest, as in Benussi
et al. (2022) and John et al. (2020). So "Asian" does not mean a majority of Asian residents, but a
share that is high compared with other communities. The four shares themselves are left out: the
group column takes their place, and include_sensitive=False is blind to them.

Left out as well: the identifiers (state, county, community, name, fold), the 22 columns that are
missing in more than half of the rows (police statistics), and the one community with another gap.
The label is whether the rate is above its median of 0.15, which is bad for a community
(`favourable` is 0), or with target="regression" the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from retrofair.datasets.base import DataSet, Protected, numbers, read_csv
from retrofair.datasets.fetch import DataFile, Source

FILE = "communities/communities.data"
NAMES = """
state county community communityname fold population householdsize racepctblack racePctWhite
racePctAsian racePctHisp agePct12t21 agePct12t29 agePct16t24 agePct65up numbUrban pctUrban
medIncome pctWWage pctWFarmSelf pctWInvInc pctWSocSec pctWPubAsst pctWRetire medFamInc perCapInc
whitePerCap blackPerCap indianPerCap AsianPerCap OtherPerCap HispPerCap NumUnderPov
PctPopUnderPov PctLess9thGrade PctNotHSGrad PctBSorMore PctUnemployed PctEmploy PctEmplManu
PctEmplProfServ PctOccupManu PctOccupMgmtProf MalePctDivorce MalePctNevMarr FemalePctDiv
TotalPctDiv PersPerFam PctFam2Par PctKids2Par PctYoungKids2Par PctTeen2Par PctWorkMomYoungKids
PctWorkMom NumIlleg PctIlleg NumImmig PctImmigRecent PctImmigRec5 PctImmigRec8 PctImmigRec10
PctRecentImmig PctRecImmig5 PctRecImmig8 PctRecImmig10 PctSpeakEnglOnly PctNotSpeakEnglWell
PctLargHouseFam PctLargHouseOccup PersPerOccupHous PersPerOwnOccHous PersPerRentOccHous
PctPersOwnOccup PctPersDenseHous PctHousLess3BR MedNumBR HousVacant PctHousOccup PctHousOwnOcc
PctVacantBoarded PctVacMore6Mos MedYrHousBuilt PctHousNoPhone PctWOFullPlumb OwnOccLowQuart
OwnOccMedVal OwnOccHiQuart RentLowQ RentMedian RentHighQ MedRent MedRentPctHousInc
MedOwnCostPctInc MedOwnCostPctIncNoMtg NumInShelters NumStreet PctForeignBorn PctBornSameState
PctSameHouse85 PctSameCity85 PctSameState85 LemasSwornFT LemasSwFTPerPop LemasSwFTFieldOps
LemasSwFTFieldPerPop LemasTotalReq LemasTotReqPerPop PolicReqPerOffic PolicPerPop
RacialMatchCommPol PctPolicWhite PctPolicBlack PctPolicHisp PctPolicAsian PctPolicMinor
OfficAssgnDrugUnits NumKindsDrugsSeiz PolicAveOTWorked LandArea PopDens PctUsePubTrans PolicCars
PolicOperBudg LemasPctPolicOnPatr LemasGangUnitDeploy LemasPctOfficDrugUn PolicBudgPerPop
ViolentCrimesPerPop
"""
LABEL = "ViolentCrimesPerPop"
IDENTIFIERS = ("state", "county", "community", "communityname", "fold")
# In a tie (8 communities) the first of these counts.
SHARES = {
    "racepctblack": "Black",
    "racePctWhite": "White",
    "racePctAsian": "Asian",
    "racePctHisp": "Hispanic",
}
MEDIAN = 0.15
MOST = 0.5


def read(paths: Mapping[str, Path]) -> pd.DataFrame:
    """Complete columns and rows, and the group column."""
    place = paths[FILE]
    table = read_csv(place, header=None, names=NAMES.split(), index_col=False, na_values=["?", ""])
    table = table.drop(columns=list(IDENTIFIERS))
    table = table.loc[:, table.isna().mean() <= MOST].dropna().reset_index(drop=True)
    shares = list(SHARES)
    numbers(table, place, list(table.columns))
    race = table[shares].idxmax(axis=1).map(SHARES).rename("race")
    return pd.concat([race, table.drop(columns=shares)], axis=1)


COMMUNITIES = DataSet(
    name="communities",
    label=LABEL,
    favourable=0,
    protected={"race": Protected("White")},
    read=read,
    threshold=MEDIAN,
    files=(
        DataFile(
            FILE,
            "09e0b5c07eae24c1efab19b2edee05e160e7f5743b6f31e31eec3d73624da2ea",
            (
                Source(
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/communities/"
                    "communities.data"
                ),
                Source(
                    "https://archive.ics.uci.edu/static/public/183/communities+and+crime.zip",
                    ("communities.data",),
                ),
            ),
        ),
    ),
    reference="Redmond (2009), Communities and crime, UCI Machine Learning Repository",
)
