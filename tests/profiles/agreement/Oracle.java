import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationOptions;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirDefaultPolicyAdvisor;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r5.elementmodel.Element;
import org.hl7.fhir.r5.elementmodel.Manager;
import org.hl7.fhir.r5.utils.validation.IResourceValidator;
import org.hl7.fhir.r5.utils.validation.IValidatorResourceFetcher;
import org.hl7.fhir.r5.utils.validation.constants.ReferenceValidationPolicy;

/** Compares the type that a reference names with the targets that are allowed, also when the target is elsewhere. */
class TypesOfReferences extends FhirDefaultPolicyAdvisor {
  @Override
  public ReferenceValidationPolicy policyForReference(
      IResourceValidator validator, Object context, String path, String url, ReferenceDestinationType destination) {
    return ReferenceValidationPolicy.CHECK_TYPE_IF_EXISTS;
  }
}

/** Reads cases ({"id", "profiles", "resource"}) as JSON lines, writes what HAPI's validator says of each as JSON lines. */
public class Oracle {
  private static final Pattern REFERENCE = Pattern.compile("(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})");
  private static final Pattern R4_VERSION = Pattern.compile("(http://hl7\\.org/fhir/[^\"|]+)\\|4\\.0\\.1");
  private static final Set<String> KINDS = Set.of("StructureDefinition", "ValueSet", "CodeSystem");

  public static void main(String[] arguments) throws Exception {
    PrintStream output = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    FhirContext context = FhirContext.forR4();
    ObjectMapper mapper = new ObjectMapper();
    PrePopulatedValidationSupport packages = new PrePopulatedValidationSupport(context);
    for (Path file : definitions(Path.of(arguments[0]))) {
      // HAPI looks R4's own definitions up without their version.
      String text = R4_VERSION.matcher(Files.readString(file)).replaceAll("$1");
      if (KINDS.contains(mapper.readTree(text).path("resourceType").asText())) {
        packages.addResource(context.newJsonParser().parseResource(text));
      }
    }
    ValidationSupportChain chain = new ValidationSupportChain(
        packages,
        new DefaultProfileValidationSupport(context),
        new CommonCodeSystemsTerminologyService(context),
        new InMemoryTerminologyServerValidationSupport(context),
        new SnapshotGeneratingValidationSupport(context));
    FhirInstanceValidator instanceValidator = new FhirInstanceValidator(chain);
    instanceValidator.setAnyExtensionsAllowed(true);
    instanceValidator.setErrorForUnknownProfiles(false);
    instanceValidator.setValidatorPolicyAdvisor(new TypesOfReferences());
    instanceValidator.setValidatorResourceFetcher(typesOnly());
    FhirValidator validator = context.newValidator().registerValidatorModule(instanceValidator);
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      output.println(mapper.writeValueAsString(verdict(mapper, validator, mapper.readTree(line))));
    }
  }

  /** A fetcher that knows of a resource elsewhere only what its reference says: type and id. */
  private static IValidatorResourceFetcher typesOnly() {
    return (IValidatorResourceFetcher) Proxy.newProxyInstance(
        Oracle.class.getClassLoader(), new Class<?>[] {IValidatorResourceFetcher.class}, (proxy, method, parameters) ->
            switch (method.getName()) {
              case "fetch" -> named((IResourceValidator) parameters[0], (String) parameters[2]);
              case "resolveURL" -> true;
              case "fetchesCanonicalResource" -> false;
              default -> null;
            });
  }

  private static Element named(IResourceValidator validator, String reference) throws Exception {
    Matcher parts = REFERENCE.matcher(reference);
    if (!parts.matches()) {
      return null;
    }
    String resource = "{\"resourceType\":\"" + parts.group(1) + "\",\"id\":\"" + parts.group(2) + "\"}";
    return Manager.parseSingle(
        validator.getContext(), new ByteArrayInputStream(resource.getBytes(StandardCharsets.UTF_8)), Manager.FhirFormat.JSON);
  }

  private static List<Path> definitions(Path folder) throws Exception {
    try (Stream<Path> files = Files.walk(folder)) {
      return files.filter(file -> file.toString().matches(".*/package/[^.][^/]*\\.json"))
          .filter(file -> !file.toString().contains("hl7.fhir.r4.core#"))
          .filter(file -> !file.endsWith("package.json")).sorted().toList();
    }
  }

  private static ObjectNode verdict(ObjectMapper mapper, FhirValidator validator, JsonNode testCase) {
    ObjectNode verdict = mapper.createObjectNode();
    verdict.set("id", testCase.get("id"));
    ValidationOptions options = new ValidationOptions();
    testCase.path("profiles").forEach(profile -> options.addProfile(profile.asText()));
    ThreadMXBean thread = ManagementFactory.getThreadMXBean();
    long start = thread.getCurrentThreadCpuTime();
    try {
      ArrayNode issues = verdict.putArray("issues");
      for (SingleValidationMessage message
          : validator.validateWithResult(testCase.get("resource").toString(), options).getMessages()) {
        ResultSeverityEnum severity = message.getSeverity();
        issues.addObject().put("severity", severity.getCode()).put("rule", message.getMessageId())
            .put("path", message.getLocationString()).put("message", message.getMessage());
      }
    } catch (Exception | StackOverflowError failure) {
      verdict.put("failure", failure.toString());
    }
    verdict.put("microseconds", (thread.getCurrentThreadCpuTime() - start) / 1000);
    return verdict;
  }
}
