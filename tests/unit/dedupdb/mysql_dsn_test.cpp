#include "dedupdb/mysql_dsn.h"

#include <gmock/gmock.h>

#include "common/error.h"
#include "dedupdb/dedup_db.h"
#include "dedupdb/mysql_session.h"

namespace obd::dedupdb {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

std::string refusal(std::string_view text) {
  try {
    parse_mysql_dsn(text);
  } catch (const UsageError& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return {};
}

struct Accepted {
  const char* text;
  const char* user;
  const char* password;
  const char* place;
};

TEST(MysqlDsn, AcceptsWhatTheReferenceAccepts) {
  for (const Accepted& expected : {
           Accepted{"u:p@tcp(db.example.com:3307)/farm", "u", "p", "tcp(db.example.com:3307)/farm"},
           Accepted{"u@tcp(db:1)/farm", "u", "", "tcp(db:1)/farm"},
           Accepted{"u:@tcp(db)/farm", "u", "", "tcp(db:3306)/farm"},
           Accepted{"u:p@tcp/farm", "u", "p", "tcp(127.0.0.1:3306)/farm"},
           Accepted{"u:p@/farm", "u", "p", "tcp(127.0.0.1:3306)/farm"},
           Accepted{"/farm", "", "", "tcp(127.0.0.1:3306)/farm"},
           Accepted{"tcp(db:1)/farm", "", "", "tcp(db:1)/farm"},
           Accepted{"u:p@tcp([::1]:3307)/farm", "u", "p", "tcp([::1]:3307)/farm"},
           Accepted{"u:p@tcp([fe80::1])/farm", "u", "p", "tcp([fe80::1]:3306)/farm"},
           Accepted{"u:p@tcp(:3307)/farm", "u", "p", "tcp(127.0.0.1:3307)/farm"},
           Accepted{"u:p@unix(/run/mysqld/mysqld.sock)/farm", "u", "p", "unix(/run/mysqld/mysqld.sock)/farm"},
           Accepted{"u:p@unix/farm", "u", "p", "unix(/tmp/mysql.sock)/farm"},
           Accepted{"u:p@ss@tcp(db)/farm", "u", "p@ss", "tcp(db:3306)/farm"},
           Accepted{"u:p:a/b?c=d&e(f)g@h%41#@tcp(db)/farm", "u", "p:a/b?c=d&e(f)g@h%41#",
                    "tcp(db:3306)/farm"},
           Accepted{"u: @tcp(db)/farm", "u", " ", "tcp(db:3306)/farm"},
           Accepted{"u:p\u00e4ss@tcp(db)/farm", "u", "p\u00e4ss", "tcp(db:3306)/farm"},
           Accepted{"u:p@tcp(x)/y@tcp(db)/farm", "u", "p@tcp(x)/y", "tcp(db:3306)/farm"},
           Accepted{"u:p@tcp(db)/a%2Fb", "u", "p", "tcp(db:3306)/a/b"},
           Accepted{"u:p@tcp(db)/farm?", "u", "p", "tcp(db:3306)/farm"},
       }) {
    const MysqlDsn dsn = parse_mysql_dsn(expected.text);
    EXPECT_EQ(dsn.user, expected.user) << expected.text;
    EXPECT_EQ(dsn.password, expected.password) << expected.text;
    EXPECT_EQ(dsn.place(), expected.place) << expected.text;
  }
}

TEST(MysqlDsn, ReadsParameters) {
  const MysqlDsn standard = parse_mysql_dsn("u:p@tcp(db)/farm");
  EXPECT_EQ(standard.tls, MysqlTls::kOff);
  EXPECT_EQ(standard.connect_timeout, milliseconds(10'000));
  const MysqlDsn dsn = parse_mysql_dsn(
      "u:p@tcp(db)/farm?charset=utf8mb4&parseTime=True&loc=Europe%2FBerlin&collation=utf8_bin&tls=skip-verify"
      "&timeout=1m30s&readTimeout=500ms&writeTimeout=0");
  EXPECT_EQ(dsn.tls, MysqlTls::kSkipVerify);
  EXPECT_EQ(dsn.connect_timeout, milliseconds(90'000));
  EXPECT_EQ(dsn.read_timeout, milliseconds(500));
  EXPECT_EQ(dsn.write_timeout, milliseconds(0));
  EXPECT_EQ(parse_mysql_dsn("/farm?tls=true").tls, MysqlTls::kVerify);
  EXPECT_EQ(parse_mysql_dsn("/farm?tls=TRUE").tls, MysqlTls::kVerify);
  EXPECT_EQ(parse_mysql_dsn("/farm?tls=preferred").tls, MysqlTls::kPreferred);
  EXPECT_EQ(parse_mysql_dsn("/farm?tls=false").tls, MysqlTls::kOff);
}

TEST(MysqlDsn, SaysWhatIsWrong) {
  EXPECT_THAT(refusal(""), HasSubstr("empty"));
  EXPECT_THAT(refusal("u:p@tcp(db)"), HasSubstr("'/'"));
  EXPECT_THAT(refusal("u:p@tcp(db)/"), HasSubstr("database's name"));
  EXPECT_THAT(refusal("u:p@tcp(db)/?tls=true"), HasSubstr("database's name"));
  EXPECT_THAT(refusal("u:p@tcp(db/farm"), HasSubstr("without ')'"));
  EXPECT_THAT(refusal("u:p@tcp(db:x)/farm"), HasSubstr("port"));
  EXPECT_THAT(refusal("u:p@tcp(db:0)/farm"), HasSubstr("port"));
  EXPECT_THAT(refusal("u:p@tcp(db:65536)/farm"), HasSubstr("port"));
  EXPECT_THAT(refusal("u:p@tcp(db:)/farm"), HasSubstr("port"));
  EXPECT_THAT(refusal("u:p@tcp(::1)/farm"), HasSubstr("brackets"));
  EXPECT_THAT(refusal("u:p@tcp([::1)/farm"), HasSubstr("']'"));
  EXPECT_THAT(refusal("u:p@tcp([::1]3306)/farm"), HasSubstr("']'"));
  EXPECT_THAT(refusal("u:p@tcp(d b)/farm"), HasSubstr("odd characters"));
  EXPECT_THAT(refusal("u:p@unix(run/x)/farm"), HasSubstr("absolute path"));
  EXPECT_THAT(refusal("u:p@udp(db)/farm"), HasSubstr("protocol"));
  EXPECT_THAT(refusal("/srv/obd.db"), HasSubstr("protocol"));
  EXPECT_THAT(refusal("u:p@tcp(db)/farm\n"), HasSubstr("control characters"));
  EXPECT_THAT(refusal("u:p@tcp(db)/a%2"), HasSubstr("database's name"));
  EXPECT_THAT(refusal("u:p@tcp(db)/farm?compress=true"), HasSubstr("'compress' is unknown"));
  EXPECT_THAT(refusal("u:p@tcp(db)/farm?tls"), HasSubstr("'tls' has no value"));
  EXPECT_THAT(refusal("u:p@tcp(db)/farm?tls=custom"), HasSubstr("update-ca-certificates"));
  EXPECT_THAT(refusal("u:p@tcp(db)/farm?tls=%zz"), HasSubstr("'tls' has a '%'"));
  EXPECT_THAT(refusal("u:p@tcp(db)/farm?timeout=5"), HasSubstr("'timeout' takes a duration"));
}

TEST(MysqlDsn, RefusalsDoNotRepeatThePassword) {
  for (const char* text :
       {"u:secret@tcp(db)", "u:secret", "u:secret/farm", "u:a/secret@tcp(db:3306)", "u:secret@tcp(db/farm",
        "u:secret@tcp(db:x)/farm", "u:a?b=secret@tcp(db)", "u:a/b?secret=c@tcp(db)", "u:secret@udp(db)/farm",
        "secret@tcp(d b)/farm", "u:secret@tcp(db)/farm?x=1", "u:secret@tcp(db)/farm?tls=x",
        "u:secret@tcp(db)/farm?timeout=x", "u:secret\n@tcp(db)/farm"}) {
    EXPECT_THAT(refusal(text), Not(HasSubstr("secret"))) << text;
  }
}

TEST(MysqlDsn, ReadsDurationsOfGo) {
  const auto parsed = [](const char* text) { return parse_go_duration("timeout", text).count(); };
  EXPECT_EQ(parsed("0"), 0);
  EXPECT_EQ(parsed("0s"), 0);
  EXPECT_EQ(parsed("1s"), 1000);
  EXPECT_EQ(parsed("1.5s"), 1500);
  EXPECT_EQ(parsed(".5s"), 500);
  EXPECT_EQ(parsed("1h2m3s4ms"), 3'723'004);
  EXPECT_EQ(parsed("1500us"), 1);
  EXPECT_EQ(parsed("2000000ns"), 2);
  EXPECT_EQ(parsed("3000\u00b5s"), 3);
  EXPECT_EQ(parsed("1ns"), 1) << "short is not unlimited";
  for (const char* text :
       {"", "5", "s", ".s", "1x", "-1s", "1s 2s", "1..5s", "1e3s", "1s5", "25h", "00", "9999999999999h"}) {
    EXPECT_THROW(parsed(text), UsageError) << text;
  }
}

TEST(MysqlDsn, IsToldFromAPath) {
  for (const char* text :
       {"u:p@tcp(db:3306)/farm", "tcp(db)/farm", "u@unix(/run/x)/farm", "mysql://u:p@db/farm"}) {
    EXPECT_TRUE(looks_like_mysql_dsn(text)) << text;
  }
  for (const char* text :
       {"/srv/obd.db", "obd.db", "./tcp(1).db", "user@host/obd.db", "/srv/tcp(x)/obd.db"}) {
    EXPECT_FALSE(looks_like_mysql_dsn(text)) << text;
  }
}

TEST(MysqlDsn, MessagesThatHoldThePasswordAreWithheld) {
  EXPECT_EQ(without_secret("access denied", "secret"), "access denied");
  EXPECT_EQ(without_secret("access denied", ""), "access denied");
  EXPECT_THAT(without_secret("cannot parse 'u:secret@'", "secret"), Not(HasSubstr("secret")));
  EXPECT_THAT(without_secret("using password: YES", "p"), Not(HasSubstr("using")));
}

TEST(OpenDedupDb, RefusesWhatCannotBeALocation) {
  EXPECT_THROW(open_dedup_db({.type = "postgres", .location = "x"}), UsageError);
  EXPECT_THROW(open_dedup_db({.type = "", .location = "x"}), UsageError);
  EXPECT_THROW(open_dedup_db({.type = "sqlite", .location = ""}), UsageError);
  EXPECT_THROW(open_dedup_db({.type = "sqlite", .location = ":memory:"}), UsageError);
  EXPECT_THROW(open_dedup_db({.type = "sqlite", .location = "file:x?mode=ro"}), UsageError);
  EXPECT_THROW(open_dedup_db({.type = "mysql", .location = ""}), UsageError);
  EXPECT_THROW(open_dedup_db({.type = "mysql", .location = "/srv/obd.db"}), UsageError);
  try {
    open_dedup_db({.type = "sqlite", .location = "u:secret@tcp(db)/farm"});
    FAIL() << "taken for a path";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("--db-type mysql"));
    EXPECT_THAT(error.what(), Not(HasSubstr("secret")));
  }
}

TEST(OpenDedupDb, ConnectsNowhereYet) {
  const auto db = open_dedup_db({.type = "mysql", .location = "u:secret@tcp(db.invalid:1)/farm"});
  EXPECT_EQ(db->name(), "mysql:tcp(db.invalid:1)/farm");
  EXPECT_EQ(open_dedup_db({.location = "/nowhere/obd.db"})->name(), "sqlite:/nowhere/obd.db");
}

}  // namespace
}  // namespace obd::dedupdb
